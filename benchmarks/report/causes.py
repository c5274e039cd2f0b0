"""Why goals were missed and what was tried: written by people who read the full report, kept beside its data."""

from __future__ import annotations

CAUSES: dict[str, str] = {
    "gain-busy": (
        "in slow-device there is no such gain: clairvoyant itself takes less off. With 1.2 s for the whole network "
        "one-time sends the input or leaves at exit 1 in nearly all tasks, clairvoyant in four of five, so that little "
        "is left to decide under way. In heavy-tailed (jobs of infinite variance) clairvoyant takes little more off "
        "than was asked for. Tried: two heads instead of one, more tasks, steps and rates, another gate "
        "(docs/design/2026-11-24-learning.md)"
    ),
    "gap-least": (
        "in slow-device and heavy-tailed the edge's jobs vary most; presumably clairvoyant's lead is in knowing single "
        "long jobs ahead, which cannot be learned. Learning closes near half of what open-loop leaves open there. In "
        "the third cell learned decides as open-loop does, while learned-factual closes 0.93: there was something to "
        "learn that this cell's one lesson, or its gate, missed; the interval of the cell holds the goal"
    ),
    "messages-fleet-slow-links": (
        "only cost misses it. Presumably since exact state sees at every decision how long the uplink is still busy "
        "with earlier offloads, while a plan holds the mean of it. Tried by hand (50 devices, one seed, 2,500 tasks): "
        "open-loop with exact state 0.199 s a task, the same told that the uplink is always free 0.213, plans 0.216, "
        "plans that are weighed at every move 0.213 (docs/design/2026-11-24-formulation.md, The uplink in a plan)"
    ),
    "messages-fleet": (
        "only messages miss it. Here nearly every task finds its device idle and is decided at its start, so polling "
        "asks once a task: a question and an answer, which plans spare. The start of a task on an idle device and its "
        "end are told either way, 2 messages, for they are what the mirror lives on; heartbeats, leases and attachment "
        "(6 tasks a device) come to 1.2. One seed of 1,000 devices. 10,000 devices at 400 edges were run with 2 tasks "
        "a device and one seed (benchmarks/results/signalling-fleet-10000.json): 4.13 of 6.07 messages (68 %), cost "
        "ratio 1.003; 2.0 of either are the attachment, and without it 2.13 of 4.07 (52 %) are left"
    ),
    "speed": (
        "38 of 83 cells reach it, simulated two at a time on two cores that share caches. Time goes into the edge's "
        "own queue, job by job, and into evaluating situations not met before, of which runs of 1,600 tasks meet many "
        "(docs/how-to/simulator.md). Since then the edge's queue has become quicker: a run of one cell whose "
        "evaluations are there takes 0.94 of the time (paired, medians 0.943 and 0.934 of 220 runs each on a machine "
        "half as fast as that of the grid); the grid was not measured anew"
    ),
}
"""By :attr:`Goal.key`. Printed only while the goal is missed."""
