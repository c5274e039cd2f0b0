"""What the load generator asks: payloads of real or made-up frames at a chosen cut, encoded once."""

from __future__ import annotations

from pathlib import Path

from edge.load import LoadTails
from twinsplit.errors import SettingsError
from twinsplit.model.frames import read_frames
from twinsplit.model.manifest import Manifest, RepresentationEntry, manifest_digest, read_manifest
from twinsplit.model.payload import PICTURE_KINDS, encode_payload
from twinsplit.model.preprocessing import PreparedInput, prepare
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport.limits import model_message_bytes


def load_tails(
    folder: Path,
    *,
    cut: int = 0,
    representation: str | None = None,
    frames: Path | None = None,
    count: int = 8,
    seed: int = 0,
    budget_s: float | None = None,
) -> LoadTails:
    """Encode ``count`` payloads of a model.

    Args:
        folder: Its model folder; the segments before ``cut`` are run once per payload.
        cut: Cut of the tensor that is sent; 0: the input.
        representation: Name such as ``uint8+zstd``; ``None``: the offered one with the fewest bytes.
        frames: Folder of frames, of which ``count`` are taken; ``None``: made-up frames from ``seed``.

    Raises:
        ModelError: the folder cannot be used.
        SettingsError: a cut or representation that the model does not have.
        SourceError: the folder cannot be read, or holds no frame.
        FrameError: a frame that cannot be used.
    """
    manifest, manifest_bytes = read_manifest(folder)
    if not 0 <= cut < manifest.segment_count:
        raise SettingsError(f"--cut {cut}: {manifest.name} has tails after cuts 0..{manifest.segment_count - 1}")
    prepared = _prepared(manifest, frames, count, seed)
    position = _position(
        manifest, cut, representation, has_picture=all(frame.picture is not None for frame in prepared)
    )
    runtime = SegmentRuntime.load(folder, segments=range(cut), with_exits=False) if cut else None
    payloads = []
    for frame in prepared:
        tensor = frame.tensor
        if runtime is not None:
            for index in range(cut):
                tensor = runtime.run_segment(index, tensor)
        payload = encode_payload(manifest, cut, position, tensor, frame.picture)
        payloads.append(payload)
    return LoadTails(manifest_digest(manifest_bytes), cut, payloads, model_message_bytes([manifest]), budget_s)


def _prepared(manifest: Manifest, frames: Path | None, count: int, seed: int) -> list[PreparedInput]:
    if frames is None:
        return [made_up_input(manifest, seed + index) for index in range(count)]
    return [prepare(frame, manifest) for _, frame, _ in read_frames(frames, limit=count)]


def _position(manifest: Manifest, cut: int, name: str | None, *, has_picture: bool) -> int:
    entries = manifest.cuts[cut].representations

    def is_usable(entry: RepresentationEntry) -> bool:
        return has_picture or entry.kind not in PICTURE_KINDS

    usable = [position for position, entry in enumerate(entries) if entry.is_offered and is_usable(entry)]
    if name is not None:
        usable = [position for position, entry in enumerate(entries) if entry.name == name and is_usable(entry)]
    if not usable:
        offered = ", ".join(entry.name for entry in entries if entry.is_offered and is_usable(entry)) or "none"
        raise SettingsError(f"--representation {name or 'any'}: cut {cut} of {manifest.name} offers {offered}")
    return min(usable, key=lambda position: entries[position].mean_bytes)
