"""How often a process looks for cycles of objects that nobody holds any more.

A twin service with thousands of devices holds millions of objects that live as long as their device, and CPython looks
through the young ones each time that 700 more have come than gone. Nearly all of what a message makes goes by itself.
"""

import gc

YOUNG_OBJECTS = 20_000
"""More objects that have come than gone, after which the young ones are looked through; older ones in proportion."""


def collect_rarely() -> None:
    """Raise the threshold of this process. Call it once at a service's entry point."""
    gc.set_threshold(YOUNG_OBJECTS)
