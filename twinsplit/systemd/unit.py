"""The text of a systemd unit for one service: sandboxed, watched, bounded. Pure: nothing is read from this machine.

Needs systemd 247 (Debian 11, Ubuntu 22.04) for credentials; what an older one does not know it ignores with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

WATCHDOG_S = 30
"""An event loop that is silent for so long is killed and started again, seconds."""
_STOP_MARGIN_S = 15
"""Time beyond the drain for last reports, answers and records, seconds."""


@dataclass(frozen=True, slots=True)
class Access:
    """What of the machine a service needs beyond its own folder, the network and files that all may read."""

    devices: tuple[str, ...] = ()
    """Device nodes, or classes as ``char-NAME``, that may be read and written."""
    groups: tuple[str, ...] = ()
    """Groups that own those nodes."""
    is_code_generated: bool = False
    """An execution provider compiles code while it runs (CUDA, TensorRT, ...)."""
    cache_variable: str | None = None
    """Variable that names the folder for what was compiled; ``None``: there is none."""


CAMERA = Access(devices=("char-video4linux", "char-media", "char-dma_heap"), groups=("video",))
"""Video4Linux nodes, and those that libcamera asks for besides."""
PI_FIRMWARE = Access(devices=("/dev/vcio",), groups=("video",))
"""Mailbox of a Raspberry Pi's firmware: what vcgencmd reads power and throttling from."""
_NVIDIA = Access(
    # Of a graphics card the first, of a Jetson the rest.
    devices=("char-nvidia*", "char-nvhost*", "char-nvgpu*", "/dev/nvmap"),
    groups=("video", "render"),
    is_code_generated=True,
    cache_variable="CUDA_CACHE_PATH",
)
NVIDIA_METER = replace(_NVIDIA, is_code_generated=False, cache_variable=None)
"""What NVML asks for."""
_DRI = Access(devices=("char-drm",), groups=("render",), is_code_generated=True)
_PROVIDERS: Mapping[str, Access] = {"cpu": Access(), "cuda": _NVIDIA, "tensorrt": _NVIDIA}


def access_of_provider(provider: str) -> Access:
    """What ONNX Runtime's execution provider ``provider`` (short name or ONNX Runtime's own) needs."""
    short = provider.lower().removesuffix("executionprovider")
    return _PROVIDERS.get(short, _DRI)


@dataclass(frozen=True, slots=True)
class Unit:
    """A service of systemd. ``command`` is its program and arguments, without those for credentials."""

    name: str
    """Without ``.service``; also the name of its folder below /var/lib."""
    description: str
    command: tuple[str, ...]
    frames_from: str | None = None
    """Shell command whose standard output becomes the service's standard input; ``None``: there is none."""
    user: str | None = None
    """An account that exists; ``None``: systemd makes one that exists only while the service runs."""
    credentials: Mapping[str, Path] = field(default_factory=dict)
    """Files that only root may read, by the setting that names them; the service gets copies."""
    writable: tuple[Path, ...] = ()
    """Folders that may be written besides the service's own."""
    access: tuple[Access, ...] = ()
    memory_max: str = "1G"
    cpu_quota: str = "200%"
    cpu_weight: int = 100
    drain_s: float = 10.0
    """Time that the service itself takes to finish what was accepted, seconds."""


def unit_text(unit: Unit) -> str:
    """The whole file."""
    parts = (("Unit", _unit(unit)), ("Service", _service(unit)), ("Install", iter(["WantedBy=multi-user.target"])))
    return "\n".join(f"[{head}]\n" + "".join(f"{line}\n" for line in lines) for head, lines in parts)


def _unit(unit: Unit) -> Iterator[str]:
    yield f"Description={unit.description}"
    yield "Wants=network-online.target"
    yield "After=network-online.target"
    yield "# Whatever fails, it is tried again for ever."
    yield "StartLimitIntervalSec=0"


def _service(unit: Unit) -> Iterator[str]:
    yield "Type=notify"
    yield f"ExecStart={' '.join(_words(unit))}"
    yield "Restart=always"
    yield "RestartSec=2s"
    yield "# Wrong settings and unusable models: no new start cures them."
    yield "RestartPreventExitStatus=2 3"
    yield f"WatchdogSec={WATCHDOG_S}s"
    yield "# Ready once the network has been loaded and measured."
    yield "TimeoutStartSec=10min"
    yield f"TimeoutStopSec={unit.drain_s + _STOP_MARGIN_S:.0f}s"
    yield "KillMode=mixed"
    yield ""
    yield from _account(unit)
    yield ""
    yield from _limits(unit)
    yield ""
    yield from _sandbox(unit)


def _account(unit: Unit) -> Iterator[str]:
    yield "DynamicUser=yes" if unit.user is None else f"User={unit.user}"
    if groups := list(dict.fromkeys(group for access in unit.access for group in access.groups)):
        yield f"SupplementaryGroups={' '.join(groups)}"
    yield f"StateDirectory={unit.name}"
    yield f"WorkingDirectory=%S/{unit.name}"
    yield "UMask=0027"
    if variables := list(dict.fromkeys(access.cache_variable for access in unit.access if access.cache_variable)):
        yield f"CacheDirectory={unit.name}"
        yield from (f"Environment={variable}=%C/{unit.name}" for variable in variables)
    yield from (f"LoadCredential={key}:{_escaped(str(path))}" for key, path in unit.credentials.items())


def _limits(unit: Unit) -> Iterator[str]:
    yield f"MemoryMax={unit.memory_max}"
    yield f"CPUQuota={unit.cpu_quota}"
    yield f"CPUWeight={unit.cpu_weight}"
    yield "TasksMax=512"
    yield "LimitNOFILE=65536"


def _sandbox(unit: Unit) -> Iterator[str]:
    yield "NoNewPrivileges=yes"
    yield "CapabilityBoundingSet="
    yield "ProtectSystem=strict"
    yield f"ProtectHome={'yes' if unit.user is None else 'read-only'}"
    yield from (f"ReadWritePaths={_quoted(_escaped(str(folder)))}" for folder in unit.writable)
    yield "PrivateTmp=yes"
    yield "PrivateMounts=yes"
    devices = list(dict.fromkeys(device for access in unit.access for device in access.devices))
    if devices:
        yield "DevicePolicy=closed"
        yield from (f"DeviceAllow={device} rw" for device in devices)
    else:
        yield "PrivateDevices=yes"
    yield "ProtectClock=yes"
    yield "ProtectControlGroups=yes"
    yield "ProtectHostname=yes"
    yield "ProtectKernelLogs=yes"
    yield "ProtectKernelModules=yes"
    yield "ProtectKernelTunables=yes"
    yield "ProtectProc=invisible"
    yield "RemoveIPC=yes"
    yield "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"
    yield "RestrictNamespaces=yes"
    yield "RestrictRealtime=yes"
    yield "RestrictSUIDSGID=yes"
    yield "LockPersonality=yes"
    if not any(access.is_code_generated for access in unit.access):
        yield "MemoryDenyWriteExecute=yes"
    yield "SystemCallArchitectures=native"
    yield "SystemCallFilter=@system-service"
    yield "SystemCallFilter=~@privileged"
    yield "SystemCallErrorNumber=EPERM"


def _words(unit: Unit) -> Iterator[str]:
    if unit.frames_from is not None:
        # The shell gives its place to the service, which then is the process that systemd watches.
        yield "/bin/bash"
        yield "-c"
        yield _word(f'exec "$0" "$@" < <(exec {unit.frames_from})')
    yield from map(_word, unit.command)
    for key in unit.credentials:
        yield f"--{key.replace('_', '-')}"
        yield f"${{CREDENTIALS_DIRECTORY}}/{key}"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of a command line, taken literally."""
    return _quoted(_escaped(text).replace("$", "$$"))


def _quoted(text: str) -> str:
    """One word, whatever is in it."""
    if text and not set(text) & set(" \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
