"""What outlives the service, taken together: documents, manifests, learned weights, replayed tasks, traces. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterator

from twin_service.archive import Archive
from twin_service.decision.value_net import ValueNet
from twin_service.learning.learner import Learner
from twin_service.manifests import Manifests
from twin_service.memory import Memory, WeightsRow
from twin_service.workload.records import ReplayBatch, replay_batches
from twin_service.workload.traces import exported
from twin_service.workload.twin import WorkloadTwin
from twinsplit.model.manifest import Manifest


class Kept:
    """Saves it, and reads what spans several parts of it.

    Args:
        workload: Holds replayed tasks and traces that are not saved yet; ``None``: there are none.
        learner: Holds learned weights; ``None``: there are none but those of an earlier run.
    """

    def __init__(
        self,
        memory: Memory,
        archive: Archive,
        manifests: Manifests,
        workload: WorkloadTwin | None,
        learner: Learner | None,
    ) -> None:
        self._memory = memory
        self._archive = archive
        self._manifests = manifests
        self._workload = workload
        self._learner = learner

    def save(self, limit: int | None = None) -> bool:
        """Keep what changed: manifests, weights, at most ``limit`` documents and replayed tasks; whether more are due.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        # What somebody decided before what was counted and learnt: whatever fails later, it is kept.
        is_archive_due = self._archive.save(limit)
        self._manifests.save()
        if self._learner is not None:
            self._learner.save()
        is_replay_due = self._workload is not None and self._workload.save(limit)
        return is_archive_due or is_replay_due

    def net_of(self, manifest: Manifest) -> ValueNet | None:
        """Learned weights in force for a model; ``None``: none."""
        model_digest = self._manifests.digest_of(manifest)
        return None if self._learner is None or model_digest is None else self._learner.net(model_digest)

    def weights(self) -> list[WeightsRow]:
        """All versions of learned weights that are kept, by model and version.

        Raises:
            StorageError: they cannot be kept or read.
        """
        if self._learner is not None:
            self._learner.save()
        return self._memory.weights()

    def exported(self, unix_s: float) -> Iterator[bytes]:
        """All documents and records as batches of trace records; ``unix_s``: now."""
        return exported(self._archive, self._memory, unix_s)

    def replay_batches(self, model: str, limit: int) -> Iterator[ReplayBatch]:
        """The newest replayed tasks of every model that a device holds and whose digest begins with ``model``."""
        return replay_batches(self._memory, self._archive, self._manifests, model, limit)
