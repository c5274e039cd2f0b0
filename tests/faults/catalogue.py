"""Every fault that this project is tested against, and the matrix of faults, services and moments (design section 8).

Production code has no hooks for tests. A fault comes from outside (signals, a proxy of TCP connections, limits of the
system), or through a door that the code has anyway: the ``Clock`` that it is given, the folder of sensors, the file of
the sink, the model's session.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import product


class Fault(str, Enum):
    """What goes wrong. The first six make up the matrix."""

    KILLED = "killed"
    """SIGKILL; started again when the fault ends."""
    STOPPED = "stopped"
    """SIGSTOP, then SIGCONT: it holds its connections and says nothing."""
    RESTARTED = "restarted"
    """SIGTERM, and started again at once."""
    BLACK_HOLED = "black-holed"
    """Nothing passes on its connections, and none is refused; afterwards all of it passes, as TCP repeats it."""
    SLOW = "slow"
    """Its connections carry a few hundred bytes per second, far less than a payload needs."""
    FLAPPING = "flapping"
    """Its connections are reset and refused, work again, and so on."""
    RESET = "reset"
    """Its connections are reset once."""
    HALF_OPEN = "half-open"
    """The other end of its connections is gone without a word; new ones work."""
    SLOW_READER = "slow-reader"
    """The other end reads next to nothing, so that what is sent piles up."""
    FULL_DISK = "full-disk"
    """The file of task records, or the twin's state, cannot grow."""
    CLOCK_JUMP = "clock-jump"
    """The wall clock jumps by a day and back."""
    SENSOR_LOST = "sensor-lost"
    """The power meter vanishes while tasks run."""
    SESSION_FAILS = "session-fails"
    """A segment raises."""
    PARTITIONED = "partitioned"
    """Packets between two network namespaces are dropped."""


class Service(str, Enum):
    """What it happens to."""

    DEVICE = "device"
    EDGE = "edge"
    TWIN = "twin"


class Moment(str, Enum):
    """What goes on when it happens."""

    IDLE = "idle"
    """No task is open."""
    MID_TASK = "mid-task"
    """A task is in service on the device."""
    MID_UPLOAD = "mid-upload"
    """Half of a payload has passed to the edge."""
    MID_PLAN = "mid-plan"
    """Half of a plan has passed to the device."""
    MID_CHECKPOINT = "mid-checkpoint"
    """The twin has just written to its state: its write-ahead log has changed."""


MATRIX = (Fault.KILLED, Fault.STOPPED, Fault.RESTARTED, Fault.BLACK_HOLED, Fault.SLOW, Fault.FLAPPING)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix."""

    service: Service
    fault: Fault
    moment: Moment

    @property
    def name(self) -> str:
        return f"{self.service.value} {self.fault.value} {self.moment.value}"


def cells() -> list[Cell]:
    """The whole matrix."""
    return [Cell(service, fault, moment) for service, fault, moment in product(Service, MATRIX, Moment)]


def short_cells() -> list[Cell]:
    """One cell per fault and service, with every moment among them."""
    moments = list(Moment)
    return [
        Cell(service, fault, moments[(row + column) % len(moments)])
        for row, service in enumerate(Service)
        for column, fault in enumerate(MATRIX)
    ]


def has_not_fired(fault: Fault) -> str:
    """What a test says where its fault has hit nothing, so that it has shown nothing."""
    return f"the fault {fault.value!r} has not fired"
