"""Segments and exits of a model folder, run by ONNX Runtime. The only module that knows session options.

Torch-free and onnx-free: devices and edges load nothing but ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from twinsplit.errors import ComputeError, ManifestError, ModelError, ProviderError
from twinsplit.model.answers import Answer as Answer
from twinsplit.model.answers import ExitAnswer as ExitAnswer
from twinsplit.model.external_data import check_external_data
from twinsplit.model.manifest import MANIFEST_NAME, Manifest, check_files, manifest_digest, read_manifest

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
    "armnn": "ArmNNExecutionProvider",
}
"""Short names of execution providers; ONNX Runtime's own names are taken as well."""
_CPU = PROVIDERS["cpu"]
_ERROR_SEVERITY = 3


class SegmentRuntime:
    """ONNX Runtime sessions for the segments and exits that this machine runs.

    ``run_*`` may be called from several threads at once.
    """

    def __init__(
        self,
        manifest: Manifest,
        manifest_bytes: bytes,
        provider: str,
        threads: int,
        first_segment: int,
        segment_sessions: Sequence[Session],
        exit_sessions: dict[int, Session],
    ) -> None:
        self.manifest = manifest
        self.manifest_bytes = manifest_bytes
        self.digest = manifest_digest(manifest_bytes)
        """Model digest, hex."""
        self.provider = provider
        """ONNX Runtime's name of the provider in use."""
        self.threads = threads
        self.segments = range(first_segment, first_segment + len(segment_sessions))
        """Segment indices loaded here."""
        self._segment_sessions = dict(zip(self.segments, segment_sessions, strict=True))
        self._exit_sessions = exit_sessions

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        provider: str = "cpu",
        threads: int = 1,
        segments: range | None = None,
        with_exits: bool = True,
    ) -> SegmentRuntime:
        """Load a model folder; only the files that are needed are read, and their digests are compared first.

        Args:
            provider: a name of :data:`PROVIDERS` or ONNX Runtime's own; never replaced by another.
            threads: threads of one inference.
            segments: consecutive segment indices to load; ``None``: all.
            with_exits: load the exits that stand after a loaded segment.

        Raises:
            ManifestError: no manifest, one that is not valid, or one whose cuts are not those of the segments.
            ModelFileError: a file is missing, its digest differs, or it points to a file that the manifest lacks.
            ComputeError: ONNX Runtime cannot load a file.
            ProviderError: the provider is unknown, not in this build of ONNX Runtime, or does not load.
        """
        manifest, manifest_bytes = read_manifest(folder)
        wanted = range(manifest.segment_count) if segments is None else segments
        if wanted.step != 1 or wanted.start < 0 or wanted.stop > manifest.segment_count:
            raise ModelError(f"segments {wanted} asked for, but the model has {manifest.segment_count}, from 0")
        exits = [e for e in manifest.exits if with_exits and e.after_segment - 1 in wanted]
        files: dict[str, str] = {}
        for index in wanted:
            segment = manifest.segments[index]
            files |= {segment.file: segment.sha256} | segment.external_files
        check_files(folder, files | {e.file: e.sha256 for e in exits})
        for index in wanted:
            check_external_data(folder / manifest.segments[index].file, manifest.segments[index].external_files)
        for each in exits:
            check_external_data(folder / each.file, ())
        provider_name = provider_named(provider)
        sessions = [
            open_session(folder / manifest.segments[i].file, provider=provider_name, threads=threads) for i in wanted
        ]
        for index, session in zip(wanted, sessions, strict=True):
            _check_fits(folder, manifest, index, session)
        return cls(
            manifest,
            manifest_bytes,
            provider_name,
            threads,
            wanted.start,
            sessions,
            {e.index: open_session(folder / e.file, provider=provider_name, threads=threads) for e in exits},
        )

    def holds_exit(self, exit_index: int) -> bool:
        """Whether exit ``exit_index`` is loaded here."""
        return exit_index in self._exit_sessions

    def takes_batches(self, index: int) -> bool:
        """Whether segment ``index`` says that it takes several tensors at once, one behind the other on axis 0."""
        session = self._segment_sessions.get(index)
        return session is not None and session.takes_batches

    def run_segment(self, index: int, tensor: NDArray[Any]) -> NDArray[Any]:
        """Tensor of cut ``index + 1`` from the tensor of cut ``index``.

        Raises:
            ComputeError: ONNX Runtime fails, or the segment is not loaded here.
        """
        session = self._segment_sessions.get(index)
        if session is None:
            raise ComputeError(f"segment {index} is not loaded here, only {self.segments}")
        return session.run(tensor)

    def run_exit(self, exit_index: int, tensor: NDArray[Any]) -> ExitAnswer | None:
        """Answer of exit ``exit_index`` from the tensor of the cut it stands at; ``None``: of its output no element is
        the largest, since that is NaN or infinite.

        Raises:
            ComputeError: ONNX Runtime fails, or the exit is not loaded here.
        """
        session = self._exit_sessions.get(exit_index)
        if session is None:
            raise ComputeError(f"exit {exit_index} is not loaded here")
        output = session.run(tensor)
        if not math.isfinite(output.max()):
            return None
        probabilities = softmax(output)
        label_index = int(probabilities.argmax())
        confidence = float(probabilities[label_index])
        evidence = self.manifest.evidence_of(exit_index, confidence)
        return ExitAnswer(label_index, confidence, evidence, self.manifest.p_exit_right(evidence))

    def run_tail(
        self, cut: int, tensor: NDArray[Any], is_wanted: Callable[[], bool] = lambda: True
    ) -> NDArray[Any] | None:
        """Output of the network from the tensor of ``cut``; ``None`` once ``is_wanted`` says that nobody waits.

        ``is_wanted`` is asked before every segment.

        Raises:
            ComputeError: ONNX Runtime fails, or a segment of the tail is not loaded here.
        """
        for index in range(cut, self.manifest.segment_count):
            if not is_wanted():
                return None
            tensor = self.run_segment(index, tensor)
        return tensor

    def answer(self, output: NDArray[Any]) -> Answer:
        """Read the network's output, see :func:`read_answer`."""
        return read_answer(self.manifest, output)


def _check_fits(folder: Path, manifest: Manifest, index: int, session: Session) -> None:
    """
    Raises:
        ManifestError: segment ``index`` takes or gives another tensor than the manifest says.
    """
    for cut, verb, found in ((index, "takes", session.entry), (index + 1, "gives", session.output)):
        said = manifest.cuts[cut].tensor
        name, kind, shape = found
        sizes_differ = len(shape) != len(said.shape) or any(
            isinstance(size, int) and size != expected for size, expected in zip(shape, said.shape, strict=False)
        )
        if (name, kind) != (said.name, said.dtype) or (shape and sizes_differ):
            sizes = ", ".join(map(str, shape))
            raise ManifestError(
                f"{folder / MANIFEST_NAME}: cut {cut} is {said.name}, {said.dtype} {said.shape}, but "
                f"{manifest.segments[index].file} {verb} {name}, {kind} ({sizes}); split the network again, or copy "
                "the whole model folder from where it is right"
            )


def read_answer(manifest: Manifest, output: NDArray[Any]) -> Answer:
    """Label and confidence of a classifier's output (1, K, ...), or the output as it is for ``task="raw"``.

    Raises:
        ComputeError: the largest element is NaN or infinite, so that no class is the most likely one.
    """
    if manifest.task == "raw":
        return Answer(label_index=None, label=None, raw_confidence=None, output=output)
    if not math.isfinite(output.max()):
        raise ComputeError(
            f"the network's output has {output.max()} as its largest element; a finite one is needed: see whether "
            "element types of fewer bits overflow in it (twinsplit model check)"
        )
    probabilities = output.reshape(-1) if manifest.output_activation == "probabilities" else softmax(output)
    label_index = int(probabilities.argmax())
    label = manifest.classes[label_index] if label_index < len(manifest.classes) else str(label_index)
    return Answer(label_index, label, float(probabilities[label_index]), output)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax over all elements: (K,) float64."""
    flat = logits.reshape(-1).astype(np.float64)
    exponentials: NDArray[np.float64] = np.exp(flat - flat.max())
    exponentials /= exponentials.sum()
    return exponentials


class Session:
    """One ONNX file, run from one input to one output (its first, unless others are named)."""

    def __init__(
        self, session: onnxruntime.InferenceSession, name: str, entry: str | None = None, output: str | None = None
    ) -> None:
        # The wrapper checks what ONNX Runtime checks anyway: 3 us a call, felt where a segment takes 50.
        self._session = getattr(session, "_sess", session)
        self._run_options = onnxruntime.RunOptions()
        self._name = name
        inputs = session.get_inputs()
        self._input = entry or inputs[0].name
        self._outputs = [output or session.get_outputs()[0].name]
        given = next(each for each in session.get_outputs() if each.name == self._outputs[0])
        taken = next(each for each in inputs if each.name == self._input)
        self.entry, self.output = _seen(taken), _seen(given)
        """Name, element type and shape of what is fed and read; a size that is open is no number."""
        shapes = [each.shape for each in (*inputs, *session.get_outputs())]
        self.takes_batches = len(inputs) == 1 and all(shape and not isinstance(shape[0], int) for shape in shapes)
        """Whether the first axis of input and output is open."""
        # Inputs that the output does not depend on must be fed all the same.
        self._unused = {i.name: _zeros(i.shape, i.type) for i in inputs if i.name != self._input}

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Output for ``tensor``.

        Raises:
            ComputeError: ONNX Runtime fails, also for a tensor of another shape or dtype.
        """
        try:
            feed = {self._input: tensor, **self._unused} if self._unused else {self._input: tensor}
            output: NDArray[Any] = self._session.run(self._outputs, feed, self._run_options)[0]
        except Exception as error:
            raise ComputeError(f"{self._name}: {_first_line(error)}") from error
        return output


def open_session(
    file: Path, *, provider: str = _CPU, threads: int = 1, entry: str | None = None, output: str | None = None
) -> Session:
    """Session of an ONNX file with the options that everything here runs with.

    Args:
        file: external data lies beside it.
        provider: ONNX Runtime's own name, see :func:`provider_named`.
        threads: threads of one inference.
        entry: input to feed; ``None``: the first.
        output: output to read; ``None``: the first.

    Raises:
        ComputeError: ONNX Runtime cannot load the file.
        ProviderError: the provider does not load on this machine.
    """
    providers = [provider] if provider == _CPU else [provider, _CPU]
    try:
        session = onnxruntime.InferenceSession(str(file), sess_options=_options(threads), providers=providers)
    except Exception as error:
        if provider != _CPU:
            raise ProviderError(f"provider {provider} does not load: {_first_line(error)}; {_CURE}") from error
        raise ComputeError(f"{file.name}: ONNX Runtime cannot load it: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise ProviderError(f"provider {provider} does not load on this machine; {_CURE}")
    # Else an execution provider that fails in a run is replaced by the CPU, quietly.
    session.disable_fallback()
    return Session(session, file.name, entry, output)


def run_in_memory(
    data: bytes, feeds: Sequence[dict[str, NDArray[Any]]], outputs: Sequence[str], *, external_folder: Path
) -> list[list[Any]]:
    """Named outputs of an ONNX model in memory, whose external data lies in ``external_folder``, for each of ``feeds``.

    Raises:
        ComputeError: ONNX Runtime cannot load or run it.
    """
    options = _options(threads=0)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(external_folder))
    try:
        session = onnxruntime.InferenceSession(data, sess_options=options, providers=[_CPU])
        return [session.run(list(outputs), feed) for feed in feeds]
    except Exception as error:
        raise ComputeError(f"ONNX Runtime cannot run the network: {_first_line(error)}") from error


_CURE = (
    "install its driver and the ONNX Runtime wheel made for it (only one onnxruntime* wheel at a time: they overwrite "
    "each other), or ask for --provider cpu"
)


def provider_named(provider: str) -> str:
    """ONNX Runtime's name of a provider given by short name or by that name.

    Raises:
        ProviderError: unknown, or not in this build of ONNX Runtime.
    """
    name = PROVIDERS.get(provider.lower(), provider)
    available = onnxruntime.get_available_providers()
    if name not in available:
        short = [s for s, full in PROVIDERS.items() if full in available]
        raise ProviderError(
            f"provider '{provider}' is not in this build of ONNX Runtime, which has {', '.join(short)}; {_CURE}"
        )
    return name


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERROR_SEVERITY
    # Pools that spin make a chain of sessions several times slower than the whole model, and a device and an edge on
    # one machine slow each other (design section 10).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # One arena for all sessions: a segment writes where the one before has just read, which is warm, and less is held.
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _share_arena() -> None:
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def _seen(found: Any) -> tuple[str, str, tuple[int | str | None, ...]]:
    return found.name, _dtype(found.type), tuple(found.shape)


def _dtype(kind: str) -> str:
    """numpy's name of an element type such as ``tensor(float)``."""
    return {"tensor(float)": "float32", "tensor(double)": "float64"}.get(kind, kind[len("tensor(") : -1])


def _zeros(shape: Sequence[int | str | None], kind: str) -> NDArray[Any]:
    return np.zeros([size if isinstance(size, int) else 1 for size in shape], dtype=_dtype(kind))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
