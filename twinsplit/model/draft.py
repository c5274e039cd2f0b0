"""A model folder while it is being made: beside its final place, and moved there when all of it is right."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from twinsplit.errors import ManifestError, SettingsError, StorageError, UnsupportedModelError
from twinsplit.model.compute import node_macs
from twinsplit.model.cuts import CutCandidate, segment_nodes
from twinsplit.model.graph import Network, load_network
from twinsplit.model.manifest import MANIFEST_NAME, Manifest, Segment, TensorSpec, read_manifest
from twinsplit.model.measurement import Progress
from twinsplit.model.segments import WrittenFile, write_segment

_CURE = "free some space or choose another --out"


class ModelDraft:
    """A context manager; what was not put in place is gone when it ends."""

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        out: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.specs = tuple(specs)
        """Tensors of cut 0..m."""
        self._out = out
        self._progress = progress

    def __enter__(self) -> ModelDraft:
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = tempfile.TemporaryDirectory(prefix=f".{self._out.name}-", dir=self._out.parent)
        except OSError as error:
            raise StorageError(f"{self._out.parent}: {error.strerror}; {_CURE}") from None
        self.folder = Path(self._temporary.name)
        """Where the draft lies."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def write_segments(
        self, network: Network, cuts: Sequence[CutCandidate], *, external_over_bytes: int, is_batch: bool = False
    ) -> tuple[Segment, ...]:
        """Write the file of every segment of ``network`` between ``cuts``.

        Raises:
            StorageError: the disk is full or cannot be written.
            ModelFileError: external data of the network cannot be read.
        """
        segments = []
        parts = segment_nodes(network, cuts)
        for index, nodes in enumerate(parts):
            written = write_segment(
                network,
                nodes,
                self.specs[index],
                self.specs[index + 1],
                self.folder / f"segment-{index}.onnx",
                external_over_bytes=external_over_bytes,
                is_batch=is_batch and self.specs[index].shape[:1] == self.specs[index + 1].shape[:1] == (1,),
            )
            segments.append(
                Segment(
                    index=index,
                    file=written.file,
                    sha256=written.sha256,
                    macs=sum(node_macs(node, network.specs) for node in nodes),
                    external_files=written.external_files,
                )
            )
            if self._progress is not None:
                self._progress("writing segments", index + 1, len(parts))
        return tuple(segments)

    def copy_segments(self, folder: Path, segments: Sequence[Segment]) -> None:
        """Take over the segments of the model in ``folder`` as they are.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        try:
            for segment in segments:
                for name in (segment.file, *segment.external_files):
                    shutil.copyfile(folder / name, self.folder / name)
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}; {_CURE}") from None

    def write_exit(self, index: int, cut: int, file: Path) -> tuple[WrittenFile, int]:
        """Write exit ``index``, which reads the tensor of cut ``cut``, from the ONNX file ``file``; also its MACs.

        Raises:
            UnsupportedModelError: it does not fit the cut, or cannot be used; the text names the reason.
        """
        spec = self.specs[cut]
        network = load_network(file)
        if (network.input.shape, network.input.dtype) != (spec.shape, spec.dtype):
            raise UnsupportedModelError(
                f"{file.name}: reads {network.input.dtype} {network.input.shape}, but cut {cut} ('{spec.name}') is "
                f"{spec.dtype} {spec.shape}"
            )
        written = write_segment(
            network,
            network.nodes,
            network.input,
            network.output,
            self.folder / f"exit-{index}.onnx",
            # An exit has no place for external data in the manifest: it is far from 2 GB.
            external_over_bytes=2**31,
        )
        return written, sum(node_macs(node, network.specs) for node in network.nodes)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        # model_copy does not validate; what is written must be what parse_manifest takes.
        manifest = Manifest.model_validate(manifest.model_dump())
        try:
            (self.folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}; {_CURE}") from None

    def put_in_place(self, manifest: Manifest) -> None:
        """Move the files to their folder, the manifest last, and remove files of a model that was there before.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        stale = previous_files(self._out) - manifest.files().keys()
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            # Without its manifest a half-moved folder is no model at all, rather than a wrong one.
            (self._out / MANIFEST_NAME).unlink(missing_ok=True)
            for name in (*manifest.files(), MANIFEST_NAME):
                shutil.move(self.folder / name, self._out / name)
            for name in stale:
                (self._out / name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._out}: {error.strerror}; {_CURE}") from None


def check_out(out: Path, is_replacing: bool) -> None:
    """See that a model may be written to ``out``.

    Raises:
        SettingsError: it is a file, or holds something and is not to be replaced.
    """
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: is a file; name a folder with --out")
    if not is_replacing and out.is_dir() and any(out.iterdir()):
        raise SettingsError(f"{out}: is not empty; name another folder with --out, or replace the model with --force")


def previous_files(folder: Path) -> set[str]:
    """Files of the model that is in ``folder``; none where its manifest cannot be read."""
    try:
        return set(read_manifest(folder)[0].files())
    except ManifestError:
        return set()
