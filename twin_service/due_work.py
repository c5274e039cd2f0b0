"""What is due to devices, and the doing of it: plans, lists of edges, looks at the backlog, leases. Sans-IO.

Work is done in batches, so that one event that concerns thousands of devices does not keep the others waiting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from twin_service.backlog_watch import BacklogWatch
from twin_service.core_settings import CoreSettings
from twin_service.device_twin import DeviceTwin
from twin_service.edge_choice import has_changed
from twin_service.edge_twin import EdgeTwin
from twin_service.edges import Edges
from twin_service.messages import BacklogInterest, EdgeList, LeaseRenewal, Send
from twin_service.planner import Cause, Planner
from twin_service.schedule import Appointment, Schedule, taken

_RENEW_AT_SHARE = 0.5
"""Share of the lease after which silence is ended by a renewal."""
_SHORTEST_LOOK_S = 0.001
"""A look is never scheduled nearer than this, so that rounding cannot make it due again at once."""
_PLANNED_AT_ONCE = frozenset({Cause.ATTACHED, Cause.EDGE_LOST})
"""Without a plan, or with one that names an edge that is gone."""
_LIST_AGAIN_S = 5.0
"""After this time it is looked at whether what a device was told of its edges still holds."""


class DueWork:
    """Which devices are to be planned, looked at or told something, and when.

    Args:
        devices: All that attached, by name; kept by the core.
        edges: All that are known, likewise.
    """

    def __init__(
        self,
        planner: Planner,
        devices: Mapping[str, DeviceTwin],
        edges: Edges,
        settings: CoreSettings,
    ) -> None:
        self._planner = planner
        self._devices = devices
        self._edges = edges
        self._settings = settings
        self._renewal_s = _RENEW_AT_SHARE * settings.planner.lease_s
        self._watch = BacklogWatch(settings.planner)
        self._schedule = Schedule()
        self._to_weigh: dict[str, Cause] = {}
        self._to_look: dict[str, None] = {}
        self._to_tell: dict[str, None] = {}
        """Devices whose list of edges may be another by now."""
        self._weigh_from_s = -math.inf
        """Instant up to which devices that have plans wait for one another, unless they are many."""

    # What makes something due.

    def attached(self, device: DeviceTwin, now_s: float) -> None:
        """A device has attached."""
        self._schedule.put(device.device_id, Appointment.LEASE, now_s + self._renewal_s)
        if device.status.manifest is not None:
            self._have_weighed(device.device_id, Cause.ATTACHED)
            self._to_tell[device.device_id] = None

    def detached(self, device: DeviceTwin) -> None:
        """A device has gone, or attaches anew: it has no plan, and nothing is due to it."""
        self._watch.forget(device)
        self._planner.forget(device)
        self._schedule.discard(device.device_id)
        for pending in (self._to_weigh, self._to_look, self._to_tell):
            pending.pop(device.device_id, None)

    def device_said(self, device: DeviceTwin, now_s: float, *, has_news: bool) -> list[Send]:
        """A device said something; ``has_news``: of what plans are made of. What it is to be told at once."""
        if has_news:
            self._consider(device, now_s)
        if len(self._edges) > 1 and now_s >= device.edges_looked_at_s + _LIST_AGAIN_S:
            self._to_tell[device.device_id] = None
        return self.look(device, now_s)

    def manifest_came(self, device: DeviceTwin) -> None:
        """A device has sent its manifest, and can be told of its edges."""
        self._to_tell[device.device_id] = None

    def replan(self, model_digest: str, cause: Cause) -> None:
        """What is known of a model has changed: its devices get new plans where that is worth a message."""
        for device in self._devices.values():
            if device.is_plannable and device.status.hello.model_digest == model_digest:
                self._have_weighed(device.device_id, cause)

    def replan_one(self, device_id: str, cause: Cause) -> None:
        """The same of one device."""
        if device_id in self._devices:
            self._have_weighed(device_id, cause)

    def edge_came(self, edge: EdgeTwin) -> None:
        """An edge has come, perhaps anew: that may concern all devices of its models."""
        self._planner.chooser.forget(edge.edge_id)
        self._tell_devices_of(edge)

    def _tell_devices_of(self, edge: EdgeTwin) -> None:
        for device in self._devices.values():
            if device.is_plannable and device.status.hello.model_digest in edge.models:
                self._to_tell[device.device_id] = None

    def edge_went(self, edge: EdgeTwin) -> None:
        """An edge has gone: its devices get plans without it."""
        for device in self._devices.values():
            if device.standing is not None and device.standing.plan.edge_id == edge.edge_id:
                self._have_weighed(device.device_id, Cause.EDGE_LOST)
        self._tell_devices_of(edge)

    def edge_reported(self, edge: EdgeTwin) -> BacklogInterest | None:
        """An edge has reported its backlog. What its reports are needed for from now on; ``None``: about as before."""
        self._to_look.update(dict.fromkeys(self._watch.touched_by(edge)))
        return self._watch.interest(edge)

    def edge_forgotten(self, edge_id: str) -> None:
        """An edge is gone for good."""
        self._watch.forget_edge(edge_id)
        self._planner.chooser.forget(edge_id)

    # Doing it.

    def next_s(self) -> float:
        """Instant at which something is due; ``-inf``: now; ``inf``: nothing is."""
        if self._to_look or self._to_tell:
            return -math.inf
        return min(self._schedule.next_s(), self._weigh_s())

    def tick(self, now_s: float) -> list[Send]:
        """Do what is due, a batch of each kind; what is to be sent."""
        sends: list[Send] = []
        for device_id, _ in taken(self._to_tell, self._settings.tell_batch):
            self._edges_changed(self._devices[device_id], now_s, sends)
        if self._weigh_s() <= now_s:
            self._weigh(now_s, sends)
        for device_id, _ in taken(self._to_look, self._settings.look_batch):
            sends.extend(self.look(self._devices[device_id], now_s))
        for device_id, appointment in self._schedule.take_due(now_s):
            device = self._devices[device_id]
            if appointment is Appointment.LOOK:
                sends.extend(self.look(device, now_s))
            elif appointment is Appointment.WEIGH:
                self._consider(device, now_s)
            else:
                if now_s >= device.last_sent_s + self._renewal_s:
                    self._note_sent(Send(device_id, LeaseRenewal()), now_s, sends)
                self._schedule.put(device_id, Appointment.LEASE, device.last_sent_s + self._renewal_s)
        return sends

    def look(self, device: DeviceTwin, now_s: float) -> list[Send]:
        """The backlog update that a device is to get now, if any; and see when to look again."""
        sends: list[Send] = []
        edge = device.plan_edge(self._edges)
        update, look_at_s = (None, math.inf) if edge is None else self._watch.look(device, edge, now_s)
        if update is not None:
            self._note_sent(Send(device.device_id, update), now_s, sends)
        self._schedule.put(device.device_id, Appointment.LOOK, max(look_at_s, now_s + _SHORTEST_LOOK_S))
        return sends

    def _consider(self, device: DeviceTwin, now_s: float) -> None:
        """Have the plan of a device weighed if that is called for; right after a weighing: see then whether it is."""
        if not device.is_plannable:
            return
        if (cause := self._planner.cause(device, self._edges, now_s)) is not None:
            self._have_weighed(device.device_id, cause)
        elif (again_s := self._planner.looks_away_until_s(device)) > now_s:
            self._schedule.put(device.device_id, Appointment.WEIGH, again_s)

    def _have_weighed(self, device_id: str, cause: Cause) -> None:
        if cause in _PLANNED_AT_ONCE:
            self._to_weigh[device_id] = cause
            self._weigh_from_s = -math.inf
        else:
            self._to_weigh.setdefault(device_id, cause)

    def _weigh_s(self) -> float:
        """Instant at which a batch of plans is due; ``inf``: none is."""
        if len(self._to_weigh) >= self._settings.plan_batch:
            return -math.inf
        return self._weigh_from_s if self._to_weigh else math.inf

    def _weigh(self, now_s: float, sends: list[Send]) -> None:
        self._weigh_from_s = now_s + self._settings.plan_pause_s
        chosen = taken(self._to_weigh, self._settings.plan_batch)
        weighed = [(self._devices[device_id], cause) for device_id, cause in chosen]
        weighed = [(device, cause) for device, cause in weighed if device.is_plannable]
        if not weighed:
            return
        for send in self._planner.weigh(weighed, self._edges, now_s):
            self._note_sent(send, now_s, sends)
            self._tell_edges(self._devices[send.device_id], now_s, sends)
        for device, _ in weighed:
            self._watch.planned(device)
            edge = device.plan_edge(self._edges)
            look_at_s = math.inf if edge is None else self._watch.watch(device, edge, now_s)
            self._schedule.put(device.device_id, Appointment.LOOK, max(look_at_s, now_s + _SHORTEST_LOOK_S))

    def _edges_changed(self, device: DeviceTwin, now_s: float, sends: list[Send]) -> None:
        if not device.is_plannable:
            return
        if (cause := self._planner.edges_changed(device, self._edges, now_s)) is not None:
            self._have_weighed(device.device_id, cause)
        self._tell_edges(device, now_s, sends)

    def _tell_edges(self, device: DeviceTwin, now_s: float, sends: list[Send]) -> None:
        """Send a device the list of its edges if it is another than the one it was sent."""
        if len(self._edges) < 2 and len(device.told_edges) < 2:
            return
        device.edges_looked_at_s = now_s
        listed = self._planner.chooser.listed(device, self._edges, now_s)
        if has_changed(device.told_edges, listed):
            device.told_edges = listed
            self._note_sent(Send(device.device_id, EdgeList(listed)), now_s, sends)

    def _note_sent(self, send: Send, now_s: float, sends: list[Send]) -> None:
        self._devices[send.device_id].last_sent_s = now_s
        sends.append(send)
