"""``twinsplit top``: the console's snapshots in a terminal.

``stream`` follows a console and says when it cannot; ``screen`` turns a snapshot into what a terminal shows, and is
pure; ``command`` joins them.
"""
