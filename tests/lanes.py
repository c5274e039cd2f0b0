"""Two processes for tests that wait more than they compute: some files in one, all others in the other."""

from collections.abc import Collection
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class TwoLanes(LoadScopeScheduling):
    """Tests of the files named ``apart`` are one lane, all others are another."""

    def __init__(self, config: pytest.Config, log: Any, apart: Collection[str]) -> None:
        super().__init__(config, log)
        self._apart = apart

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].rpartition("/")[2]
        return "apart" if file in self._apart else "others"
