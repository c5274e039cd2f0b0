"""Cells one after the other on one stage."""

from __future__ import annotations

from pathlib import Path

from benchmarks.testbed.process import ServiceEndedError
from tests.faults.catalogue import Cell
from tests.faults.cell_run import CellResult, run_cell
from tests.faults.moments import MomentMissedError
from tests.faults.stage import Stage


class Matrix:
    """Every cell finds the stage as the one before has left it, which is part of the test; after a cell that failed
    there is a new one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stage: Stage | None = None
        self._stages = 0

    def run(self, cell: Cell) -> CellResult:
        """The result of ``cell``; what goes wrong is among its problems."""
        try:
            result = run_cell(cell, self._whole_stage())
        except (ServiceEndedError, MomentMissedError, OSError) as error:
            result = CellResult(
                cell.service.value, cell.fault.value, cell.moment.value, 0, 0, {}, 0, 0.0, 0.0, (str(error),)
            )
        if result.problems:
            self.close()
        return result

    def close(self) -> None:
        """Stop what runs."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _whole_stage(self) -> Stage:
        if self._stage is None:
            self._stages += 1
            folder = self._folder / f"stage-{self._stages}"
            folder.mkdir(parents=True)
            self._stage = Stage(folder).__enter__()
        return self._stage
