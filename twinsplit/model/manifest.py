"""The manifest of a partitioned model: what ``manifest.json`` holds and how it is read, checked and digested.

A model folder is ``manifest.json`` plus the files it names. The *model digest* is the SHA-256 of the manifest's bytes;
since the manifest holds the digest of every file, it stands for the whole folder. Cuts are numbered as in design
section 2: cut 0 is the input, cut k the tensor after segment k, cut m the output.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twinsplit.errors import ManifestError, ModelFileError
from twinsplit.types import NO_EVIDENCE, evidence_state

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
MOST_CLASS_NAME = 255
"""Characters of a class name, and so of an answer's label."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ClassName = Annotated[str, Field(max_length=MOST_CLASS_NAME)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
RepresentationKind = Literal["float32", "float16", "uint8", "uint4", "png", "jpeg"]
CodecName = Literal["none", "zstd"]
DTypeName = Literal["float32", "float16", "float64", "int32", "int64", "uint8", "int8", "bool"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorSpec(_Frozen):
    """Name, shape and element type of one tensor. Shapes are fixed; the first dimension is the batch, 1."""

    name: Annotated[str, Field(min_length=1)]
    shape: tuple[Annotated[int, Field(gt=0)], ...]
    dtype: DTypeName

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's own elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class RepresentationEntry(_Frozen):
    """One way a cut's tensor may cross the wire, with what it was measured to cost."""

    kind: RepresentationKind
    codec: CodecName = "none"
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """JPEG quality; ``None`` for everything else."""
    mean_bytes: Annotated[float, Field(gt=0)]
    encode_s: Annotated[float, Field(ge=0)]
    """Encoding time on the machine that measured it; a device's profile replaces it."""
    accuracy: Probability | None = None
    """Measured accuracy (or agreement, see ``Manifest.accuracy_basis``) of the whole network fed with it."""
    loss: Annotated[float, Field(ge=0)] = 0.0
    """Measured loss of accuracy against float32; 0 where nothing was measured."""
    is_offered: bool = True
    """False: it costs more than the tolerance, and no plan uses it."""

    @property
    def name(self) -> str:
        """Such as ``uint8+zstd``, ``float32`` or ``jpeg75``."""
        base = f"{self.kind}{self.quality}" if self.quality is not None else self.kind
        return base if self.codec == "none" else f"{base}+{self.codec}"


class Cut(_Frozen):
    """The tensor after segment ``index`` (0: the input) and its representations; a plan names them by position."""

    index: Annotated[int, Field(ge=0)]
    tensor: TensorSpec
    representations: tuple[RepresentationEntry, ...] = ()


class Segment(_Frozen):
    """The ONNX subgraph between cut ``index`` and cut ``index + 1`` (``segment_index``, from 0)."""

    index: Annotated[int, Field(ge=0)]
    file: FileName
    sha256: Digest
    macs: Annotated[int, Field(ge=0)]
    external_files: dict[FileName, Digest] = {}
    """ONNX external data beside ``file``: name to digest."""


class Exit(_Frozen):
    """An early-exit classifier run on the tensor of cut ``after_segment``, calibrated on a split of its own."""

    index: Annotated[int, Field(ge=0)]
    after_segment: Annotated[int, Field(ge=1)]
    file: FileName
    sha256: Digest
    macs: Annotated[int, Field(ge=0)]
    accuracy: Probability
    bin_edges: tuple[Probability, ...]
    """Ascending inner edges of the confidence bins: ``bin_count - 1`` values of the largest softmax output."""
    p_right: tuple[Probability, ...]
    """Calibrated P(exit right | bin)."""
    p_whole_right: tuple[Probability, ...]
    """Calibrated P(whole network right | bin)."""
    prior: tuple[Probability, ...]
    """P(bin) when this exit is the first to run."""
    transitions: dict[int, tuple[tuple[Probability, ...], ...]] = {}
    """Later exit's index to the matrix P(its bin | this exit's bin), rows by this exit's bin."""

    @property
    def mean_p_right(self) -> float:
        """P(exit right) over all samples, on the calibration split."""
        return math.fsum(p * q for p, q in zip(self.prior, self.p_right, strict=True))

    def bin_of(self, confidence: float) -> int:
        """Calibrated bin of a raw confidence (largest softmax output)."""
        return bisect_right(self.bin_edges, confidence)


class Preprocessing(_Frozen):
    """How a frame of any size becomes the input (see :mod:`twinsplit.model.preprocessing`).

    ``kind="image"``: RGB or BGR picture, fitted to the input's height and width, scaled and normalised per channel.
    ``kind="none"``: frames are tensors that already have the input's shape and type.
    """

    kind: Literal["image", "none"] = "none"
    fit: Literal["resize", "crop"] = "resize"
    """``resize``: stretch to the input. ``crop``: shorter side to ``resize_to`` (or the input's), then centre crop."""
    resize_to: Annotated[int, Field(gt=0)] | None = None
    colour: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()


class Manifest(_Frozen):
    """A partitioned model. Read one with :func:`load_manifest` or :func:`parse_manifest`."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=f"^{MODEL_NAME}$")]
    version: Annotated[int, Field(ge=1)]
    task: Literal["classification", "raw"]
    """``raw``: the output is not a classifier's and is passed on as a tensor."""
    classes: tuple[ClassName, ...] = ()
    """Class names by output index; empty: answers carry the index."""
    output_activation: Literal["logits", "probabilities"] = "logits"
    preprocessing: Preprocessing = Preprocessing()
    segments: Annotated[tuple[Segment, ...], Field(min_length=1)]
    cuts: Annotated[tuple[Cut, ...], Field(min_length=2)]
    exits: tuple[Exit, ...] = ()
    device_segments: Annotated[int, Field(ge=1)] | None = None
    """How many segments a device holds; ``None``: all."""
    whole_accuracy: Probability | None = None
    accuracy_basis: Literal["labels", "agreement", "none"] = "none"
    """What ``accuracy`` was measured against: labels, the whole network's own answers, or nothing."""
    provenance: dict[str, str] = {}
    """Free text on where the model comes from (licence, data, command)."""

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        m = len(self.segments)
        if [s.index for s in self.segments] != list(range(m)):
            raise ValueError("segments must be numbered 0..m-1 in order")
        if [c.index for c in self.cuts] != list(range(m + 1)):
            raise ValueError(f"{m} segments need cuts 0..{m} in order")
        if self.device_segments is not None and self.device_segments > m:
            raise ValueError(f"device_segments is {self.device_segments} but there are {m} segments")
        if [e.index for e in self.exits] != list(range(len(self.exits))):
            raise ValueError("exits must be numbered from 0 in order")
        places = [e.after_segment for e in self.exits]
        if places != sorted(set(places)) or any(k >= m for k in places):
            raise ValueError("exits must stand after different inner segments, in ascending order")
        for e in self.exits:
            self._check_exit(e)
        return self

    def _check_exit(self, e: Exit) -> None:
        bins = self.bin_count
        if len(e.bin_edges) != bins - 1 or list(e.bin_edges) != sorted(e.bin_edges):
            raise ValueError(f"exit {e.index}: needs {bins - 1} ascending bin edges")
        if not len(e.p_right) == len(e.p_whole_right) == len(e.prior) == bins:
            raise ValueError(f"exit {e.index}: p_right, p_whole_right and prior need {bins} values each")
        if abs(sum(e.prior) - 1.0) > 1e-3:
            raise ValueError(f"exit {e.index}: its prior does not sum to 1")
        if set(e.transitions) != set(range(e.index + 1, len(self.exits))):
            raise ValueError(f"exit {e.index}: needs a transition matrix to every later exit and to no other")
        for matrix in e.transitions.values():
            if len(matrix) != bins or any(len(r) != bins or abs(sum(r) - 1.0) > 1e-3 for r in matrix):
                raise ValueError(f"exit {e.index}: transition rows must be {bins} distributions over {bins} bins")

    def __hash__(self) -> int:
        return id(self)

    @property
    def segment_count(self) -> int:
        """m."""
        return len(self.segments)

    @property
    def held_segments(self) -> int:
        """Segments that a device holds."""
        return self.device_segments or self.segment_count

    def first_sent_cut(self, *, is_tensors_only: bool) -> int:
        """First cut whose tensor a device may send: 0, the input, or with tensors only the first before which anything
        is multiplied, since what comes earlier is the frame in another form; m where there is none."""
        if not is_tensors_only:
            return 0
        return next((k for k, segment in enumerate(self.segments, start=1) if segment.macs), self.segment_count)

    @property
    def bin_count(self) -> int:
        """Confidence bins per exit (the same for all); 0 without exits."""
        return len(self.exits[0].p_right) if self.exits else 0

    @property
    def evidence_count(self) -> int:
        """Number of evidence states: ``none`` and every (exit, bin)."""
        return 1 + len(self.exits) * self.bin_count

    @cached_property
    def exit_after(self) -> dict[int, int]:
        """Decision epoch k to the index of the exit that stands there."""
        return {e.after_segment: e.index for e in self.exits}

    def p_exit_right(self, evidence: int) -> float:
        """Calibrated probability that the last exit that ran is right; 0 for ``none``."""
        if evidence == NO_EVIDENCE:
            return 0.0
        index, bin_index = divmod(evidence - 1, self.bin_count)
        return self.exits[index].p_right[bin_index]

    def p_whole_right(self, evidence: int) -> float:
        """Calibrated probability that the whole network is right; 1 where nothing was measured.

        Without evidence it is the expectation over the first exit's bins, not the accuracy on test frames: on the same
        split as everything else, so that running the first exit does not seem to make the network any better. Counts of
        later exits do not fit one another that well: who plans has to see to it.
        """
        if evidence == NO_EVIDENCE:
            if self.exits:
                first = self.exits[0]
                return math.fsum(p * q for p, q in zip(first.prior, first.p_whole_right, strict=True))
            return 1.0 if self.whole_accuracy is None else self.whole_accuracy
        index, bin_index = divmod(evidence - 1, self.bin_count)
        return self.exits[index].p_whole_right[bin_index]

    def evidence_of(self, exit_index: int, confidence: float) -> int:
        """Evidence state after exit ``exit_index`` showed the raw ``confidence``."""
        return evidence_state(exit_index, self.exits[exit_index].bin_of(confidence), self.bin_count)

    def files(self) -> dict[str, str]:
        """Every file of the model folder except the manifest: name to SHA-256."""
        found = {s.file: s.sha256 for s in self.segments} | {e.file: e.sha256 for e in self.exits}
        for s in self.segments:
            found.update(s.external_files)
        return found


def parse_manifest(data: bytes, *, origin: str = "manifest") -> Manifest:
    """Check and build a manifest from its JSON bytes.

    Raises:
        ManifestError: not JSON, another schema version, or a field that does not fit; the text names the field.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        if place == "schema_version":
            raise ManifestError(
                f"{origin}: this build reads manifest schema version {SCHEMA_VERSION}; "
                "split the model again with this version of twinsplit (twinsplit model split)"
            ) from None
        raise ManifestError(
            f"{origin}: {place}: {first['msg']}; restore the file or split the model again (twinsplit model split)"
        ) from None


def manifest_digest(data: bytes) -> str:
    """The model digest: SHA-256 of the manifest's bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Manifest of a model folder and its bytes (which the digest is made of).

    Raises:
        ManifestError: missing or not valid.
    """
    path = folder / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(
            f"{path}: {error.strerror}; name a folder that holds {MANIFEST_NAME} (twinsplit model split makes one)"
        ) from None
    return parse_manifest(data, origin=str(path)), data


def check_files(folder: Path, names: dict[str, str]) -> None:
    """Compare the named files of a model folder with their digests.

    Raises:
        ModelFileError: a file is missing, differs, or is a link to somewhere else.
    """
    place = folder.resolve()
    for name, digest in names.items():
        path = folder / name
        if not path.resolve().is_relative_to(place):
            raise ModelFileError(f"{path}: is a link out of the model folder; copy the file itself")
        try:
            with path.open("rb") as file:
                hasher = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    hasher.update(chunk)
        except OSError as error:
            raise ModelFileError(f"{path}: {error.strerror}; copy the whole model folder again") from None
        if hasher.hexdigest() != digest:
            raise ModelFileError(f"{path}: its digest differs from the manifest's; copy the whole model folder again")
