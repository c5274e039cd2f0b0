"""One cell per fault and service, with real processes; ``make faults`` runs the whole matrix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import MATRIX, Cell, Fault, Moment, Service, cells, short_cells
from tests.faults.matrix import Matrix

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    running = Matrix(tmp_path_factory.mktemp("matrix"))
    yield running
    running.close()


@pytest.mark.parametrize("cell", short_cells(), ids=lambda cell: cell.name)
def test_no_task_is_lost_or_doubled_none_waits_long_and_all_works_again_soon(cell: Cell, matrix: Matrix) -> None:
    result = matrix.run(cell)
    assert result.problems == ()
    assert result.fired > 0


def test_the_short_matrix_has_every_fault_of_every_service_and_every_moment() -> None:
    short = short_cells()
    assert {(cell.service, cell.fault) for cell in short} == {(s, f) for s in Service for f in MATRIX}
    assert {(cell.service, cell.moment) for cell in short} == {(s, m) for s in Service for m in Moment}
    assert set(short) <= set(cells())
    assert len(set(cells())) == len(Service) * len(MATRIX) * len(Moment)


def test_every_fault_of_the_catalogue_is_tried_and_proven_to_have_fired() -> None:
    here = Path(__file__).parent
    tests = "".join(path.read_text() for path in [*here.glob("test_*.py"), *here.parent.glob("system/test_*.py")])
    assert [fault for fault in Fault if fault not in MATRIX and f"has_not_fired(Fault.{fault.name})" not in tests] == []
