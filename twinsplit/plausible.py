"""The largest numbers that anybody may claim or ask for: far above all real ones, so small that sums of them stay sums.

Whatever is larger is refused at the door. Payoffs and records are made of products of such numbers; one that is
beyond any device would otherwise take everything else out of reach in a sum, or be none any more.
"""

LARGEST_SECONDS = 1e9
"""Of durations and ages: some thirty years."""
LARGEST_NUMBER = 1e15
"""Of measured rates and energies."""
LARGEST_WEIGHT = 1e6
"""Of weights, powers in watts and deadlines in seconds."""
