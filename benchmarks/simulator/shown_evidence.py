"""What the exits show on a scenario's real frames: for a simulation of just those tasks that real processes have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from benchmarks.scenario import Scenario
from twinsplit.errors import ComputeError
from twinsplit.model.frames import read_frames
from twinsplit.model.preprocessing import Frame, prepare
from twinsplit.model.runtime import SegmentRuntime


def shown_bins(scenario: Scenario, counts: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Bin of confidence that each exit shows, by device, task and exit; frames come in the testbed's order.

    Args:
        counts: tasks of each device.

    Raises:
        ModelError: the model folder cannot be used.
        SourceError: there is no frame.
    """
    by_name = _bins_by_name(scenario.model, scenario.frames_folder)
    order = iter(scenario.frame_order(sorted(by_name), sum(counts)))
    return [[by_name[next(order)] for _ in range(count)] for count in counts]


@lru_cache(maxsize=4)
def _bins_by_name(model: Path, frames: Path) -> dict[str, tuple[int, ...]]:
    runtime = SegmentRuntime.load(model)
    manifest = runtime.manifest
    return {name: _bins(runtime, frame) for name, frame, _ in read_frames(frames, classes=manifest.classes)}


def _bins(runtime: SegmentRuntime, frame: Frame) -> tuple[int, ...]:
    exits = runtime.manifest.exits
    tensor = prepare(frame, runtime.manifest).tensor
    bins = []
    for segment in range(max((e.after_segment for e in exits), default=0)):
        tensor = runtime.run_segment(segment, tensor)
        for e in exits:
            if e.after_segment == segment + 1:
                answer = runtime.run_exit(e.index, tensor)
                if answer is None:
                    raise ComputeError(
                        f"exit {e.index} gives no finite answer to a frame; leave that exit or frame out"
                    )
                bins.append((e.index, e.bin_of(answer.raw_confidence)))
    return tuple(shown for _, shown in sorted(bins))
