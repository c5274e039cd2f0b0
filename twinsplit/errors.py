"""Every error of twinsplit, in one tree.

    TwinsplitError
    ├── ConfigurationError          exit code 2
    │   ├── SettingsError           unknown key, impossible value, unreadable file
    │   ├── InsecureBindError       gRPC beyond loopback without TLS and without --insecure
    │   ├── TlsError                half a TLS configuration, unreadable key
    │   ├── ProviderError           an execution provider asked for by name does not load
    │   └── RuleError               a rule of one's own that fails, or decides what cannot be
    ├── ModelError                  exit code 3
    │   ├── ManifestError           manifest missing, corrupt or of another version
    │   ├── ModelFileError          a file of the model folder is missing or its digest differs
    │   ├── UnsupportedModelError   an ONNX file that cannot be split, with the reason
    │   └── ComputeError            a segment or exit that loads or runs no further than an error of ONNX Runtime
    ├── FrameError                  exit code 4: a frame that cannot be decoded or does not fit
    ├── SourceError                 exit code 4: a source that cannot be opened
    ├── PeerError                   exit code 5: an address that cannot be reached
    ├── ListenError                 exit code 6: a port in use or an address that is not ours
    ├── StorageError                exit code 7: a full or unwritable disk
    │   ├── ReplayError             a replayed task in the state that is damaged or of another version
    │   └── WeightsError            learned weights that are damaged, of another version, or hold numbers that are none
    ├── TrainingError               exit code 8: training diverged, or torch is missing
    └── RefusedError                a message refused; named on the wire by ``code``
        ├── BadMessageError         a field is missing, unknown or out of range
        ├── WrongDigestError        the sender's model is not the receiver's
        ├── TensorError             dtype, shape, representation or codec does not fit
        ├── OversizeError           more bytes than the manifest allows
        ├── UnknownModelError       nobody here holds that model
        ├── UnknownTwinError        no twin of that name
        ├── StaleWriteError         a document's version has moved on
        ├── EdgeFullError           the edge's queue is full
        ├── DeadlineError           the budget left is too short to finish in time
        ├── StoppingError           the service is draining
        ├── NotAllowedError         the sender's certificate does not entitle it to this
        ├── PeerLimitError          one peer has too many calls open, or sends too fast
        └── NoAnswerError           a device has dropped the frame, or could not finish it

The text of an error is written for the person who reads it, names cause and cure, and never holds another side's
internals; only ``code`` and this text cross the wire.
"""

from __future__ import annotations

from enum import Enum


class ErrorCode(str, Enum):
    """Names of refusals on the wire; each has a value in ``errors.proto`` and a gRPC status in ``transport``."""

    BAD_MESSAGE = "BAD_MESSAGE"
    WRONG_DIGEST = "WRONG_DIGEST"
    BAD_TENSOR = "BAD_TENSOR"
    OVERSIZE = "OVERSIZE"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    UNKNOWN_TWIN = "UNKNOWN_TWIN"
    STALE_WRITE = "STALE_WRITE"
    EDGE_FULL = "EDGE_FULL"
    DEADLINE = "DEADLINE"
    STOPPING = "STOPPING"
    BAD_FRAME = "BAD_FRAME"
    INTERNAL = "INTERNAL"
    NOT_ALLOWED = "NOT_ALLOWED"
    PEER_LIMIT = "PEER_LIMIT"
    NO_ANSWER = "NO_ANSWER"


class TwinsplitError(Exception):
    """Base of all; ``exit_code`` is what a command ends with when it meets this error."""

    exit_code = 1


class ConfigurationError(TwinsplitError):
    """What the user configured cannot be used."""

    exit_code = 2


class SettingsError(ConfigurationError):
    """An unknown key, an impossible value or an unreadable settings file."""


class InsecureBindError(ConfigurationError):
    """gRPC asked to listen beyond loopback without TLS and without the word ``--insecure``."""


class TlsError(ConfigurationError):
    """Half a TLS configuration, or a certificate or key that cannot be read."""


class ProviderError(ConfigurationError):
    """An ONNX Runtime execution provider asked for by name that does not load."""


class RuleError(ConfigurationError):
    """A rule of one's own that raises or decides what is unknown or impossible; the text names rule, cell, cause."""

    def __init__(self, place: str, cause: str | None = None) -> None:
        super().__init__(place if cause is None else f"{place}: {cause}")
        self.place = place
        """Rule and cell alone, for whoever is not to read the cause, which may hold the text of any exception."""


class ModelError(TwinsplitError):
    """A model folder or file cannot be used."""

    exit_code = 3


class ManifestError(ModelError):
    """A manifest that is missing, corrupt or of another schema version."""


class ModelFileError(ModelError):
    """A file of the model folder that is missing or whose digest differs from the manifest's."""


class UnsupportedModelError(ModelError):
    """An ONNX file that cannot be split; the text names the reason."""


class ComputeError(ModelError):
    """ONNX Runtime could not load or run a segment or exit; the text names it."""


class FrameError(TwinsplitError):
    """A frame that cannot be decoded, or whose type or rank does not fit the model's input."""

    exit_code = 4


class SourceError(TwinsplitError):
    """A source of frames that cannot be opened or has vanished."""

    exit_code = 4


class PeerError(TwinsplitError):
    """An address that cannot be reached."""

    exit_code = 5


class ListenError(TwinsplitError):
    """A port in use, or an address that is not this machine's."""

    exit_code = 6


class StorageError(TwinsplitError):
    """A disk that is full or cannot be written."""

    exit_code = 7


class ReplayError(StorageError):
    """A replayed task in the state that is damaged or of another version; it is left out and nothing else is lost."""


class WeightsError(StorageError):
    """Learned weights that are damaged, of another version, or hold numbers that are none; those in force stay."""


class TrainingError(TwinsplitError):
    """Training diverged, has nothing to learn from, or finds no torch; the weights in force stay."""

    exit_code = 8


class RefusedError(TwinsplitError):
    """A message refused by its receiver; the connection and everything else goes on."""

    exit_code = 9
    code = ErrorCode.INTERNAL


class BadMessageError(RefusedError):
    """A field is missing, unknown or out of range."""

    code = ErrorCode.BAD_MESSAGE


class WrongDigestError(RefusedError):
    """The sender's model is not the receiver's."""

    code = ErrorCode.WRONG_DIGEST


class TensorError(RefusedError):
    """Dtype, shape, representation or codec does not fit."""

    code = ErrorCode.BAD_TENSOR


class OversizeError(RefusedError):
    """More bytes than the manifest allows."""

    code = ErrorCode.OVERSIZE


class UnknownModelError(RefusedError):
    """Nobody here holds that model."""

    code = ErrorCode.UNKNOWN_MODEL


class UnknownTwinError(RefusedError):
    """No twin of that name."""

    code = ErrorCode.UNKNOWN_TWIN


class StaleWriteError(RefusedError):
    """A document's version has moved on."""

    code = ErrorCode.STALE_WRITE


class EdgeFullError(RefusedError):
    """The edge's queue is full."""

    code = ErrorCode.EDGE_FULL


class DeadlineError(RefusedError):
    """The budget left is too short to finish in time."""

    code = ErrorCode.DEADLINE


class StoppingError(RefusedError):
    """The service is draining."""

    code = ErrorCode.STOPPING


class NotAllowedError(RefusedError):
    """The sender's certificate does not entitle it to this."""

    code = ErrorCode.NOT_ALLOWED


class PeerLimitError(RefusedError):
    """One peer has too many calls open, or sends too fast."""

    code = ErrorCode.PEER_LIMIT


class NoAnswerError(RefusedError):
    """A device has dropped the frame, or could not finish it; the text says why."""

    code = ErrorCode.NO_ANSWER
