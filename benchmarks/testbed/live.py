"""One run of a scenario with real processes: twin, edge, other users, device.

    with LiveRun(scenario, speeds) as run:
        for snapshot in run.snapshots():
            ...                       # run.kill("edge") and run.restart("edge") at will
        result = run.close()

The device's JSON lines are followed while they are written and booked at once; signalling is read from every service's
``/metrics``. Whatever happens, nothing is left running.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.books import Books, whole_accuracy_of
from benchmarks.scenario import Scenario
from benchmarks.testbed import load
from benchmarks.testbed.commands import Ports, address, edge_arguments, twin_arguments
from benchmarks.testbed.devices import LOOK_EVERY_S, DeviceRun, device_runs
from benchmarks.testbed.emulated import PATIENCE_S, SETTLING_S, check_testbed, has_load, lead_s, load_instants_s
from benchmarks.testbed.process import ServiceProcess, sample
from benchmarks.testbed.result import RunResult, Snapshot
from benchmarks.testbed.signalling import SignallingBooks
from benchmarks.testbed.speeds import Speeds
from benchmarks.testbed.stopping import Stopping
from twin_service.decision.rules import rule_named
from twinsplit.errors import TwinsplitError
from twinsplit.model.profile import save_profile

ATTACH_TIMEOUT_S = 30.0
LAST_MESSAGES_S = 0.4
"""Time for the messages about the last task to be sent before signalling is read for the last time."""
LOAD_TRACE_NAME = "load.txt"
_SCRAPE_EVERY_S = 1.0


class RunStalledError(TwinsplitError):
    """A run in which some task never got its outcome, or the services did not find one another."""


class LiveRun:
    """Processes, books and signalling of one run; a context manager.

    Args:
        scenario: what is run.
        speeds: emulated speeds, the same for all runs that are compared.
        folder: for files of the run, which are kept then; ``None``: a temporary one.

    Raises (on entering):
        ServiceEndedError: a service cannot start; the text has its last lines.
        RunStalledError: a device gets no plan.
        SettingsError: the scenario is one for the simulator alone.
        TwinsplitError: model or frames cannot be used.
    """

    def __init__(self, scenario: Scenario, speeds: Speeds, folder: Path | None = None) -> None:
        check_testbed(scenario)
        self.scenario = scenario
        self.speeds = speeds
        self.ports = Ports.free(scenario.devices)
        self.folder = Path(tempfile.mkdtemp(prefix="twinsplit-testbed-")) if folder is None else folder
        self._is_folder_ours = folder is None
        self._services: dict[str, ServiceProcess] = {}
        self._load: ServiceProcess | None = None
        self._signalling = SignallingBooks()
        self._books = Books(scenario.weights, whole_accuracy_of(speeds.manifest))
        self._devices: list[DeviceRun] = []
        self._began_at_s = 0.0
        self._scraped_at_s = 0.0
        self._backlog_s: float | None = None
        self._mirror_accuracy: float | None = None
        self._rule_failures = 0
        self._stopping = Stopping()

    # Life.

    def __enter__(self) -> LiveRun:
        self._stopping.install()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def service(self, name: str) -> ServiceProcess:
        """``twin``, ``edge``, ``device``, ``device-2``, ..."""
        return self._services[name]

    @property
    def began_at_s(self) -> float:
        """Instant on the monotonic clock from which on tasks may arrive."""
        return self._began_at_s

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What the devices' sinks have written so far, one device after the other."""
        return [line for device in self._devices for line in device.lines]

    def kill(self, name: str) -> None:
        """SIGKILL ``twin`` or ``edge``; its messages so far are counted first."""
        self._scrape()
        self._services[name].kill()

    def restart(self, name: str) -> None:
        """Start it again with the same arguments; does not wait for it."""
        self._signalling.restarted(name)
        self._services[name].start()

    def snapshots(self, until_s: float | None = None) -> Iterator[Snapshot]:
        """Follow the run until every task has its outcome, or until ``until_s`` seconds after its beginning.

        Raises:
            ServiceEndedError: a service ended by itself.
            RunStalledError: tasks are left without an outcome long after the last arrival.
        """
        while True:
            snapshot = self.look()
            yield snapshot
            is_over = until_s is not None and snapshot.elapsed_s >= until_s
            if is_over or len(self._books.entries) >= self._expected:
                return
            if snapshot.elapsed_s > self.scenario.seconds + PATIENCE_S:
                late = next(device for device in self._devices if device.booked < device.expected)
                raise RunStalledError(
                    f"{len(self._books.entries)} of {self._expected} tasks have an outcome {PATIENCE_S:g} s after the "
                    f"last arrival; the last lines of {late.name}: {late.service.last_lines()}"
                )
            time.sleep(LOOK_EVERY_S)

    def look(self) -> Snapshot:
        """Take what is new.

        Raises:
            ServiceEndedError: a service ended by itself.
        """
        self._check()
        for device in self._devices:
            for entry in device.new_entries():
                self._books.enter(entry)
        now_s = time.monotonic()
        if now_s >= self._scraped_at_s + _SCRAPE_EVERY_S:
            self._scrape()
            self._scraped_at_s = now_s
        return Snapshot(
            elapsed_s=now_s - self._began_at_s,
            expected=self._expected,
            summary=self._books.close() if self._books.entries else None,
            messages=self._signalling.messages,
            backlog_s=self._backlog_s,
        )

    def close(self) -> RunResult:
        """Stop everything and sum up.

        Raises:
            BooksError: outcomes do not add up, or a device's own counters differ from its lines.
        """
        time.sleep(LAST_MESSAGES_S)
        self.look()
        self._scrape()
        for device in self._devices:
            device.check_counters()
        self._stop_services()
        return RunResult(
            rule=rule_named(self.scenario.rule).name,
            is_polled=self.scenario.is_polled,
            summary=self._books.close(entered=self._expected),
            messages=self._signalling.messages,
            messages_by_kind=self._signalling.by_kind(),
            mirror_accuracy=self._mirror_accuracy,
            costs_s=self._books.costs_s(),
            entries=self._books.ordered(),
            model_digest=self.speeds.profile.model_digest,
            device_slowdown=self.speeds.device_slowdown,
            edge_slowdown=self.speeds.edge_slowdown,
            load=self._load_summary(),
            rule_failures=self._rule_failures,
            last_rule_failure=self._last_rule_failure() if self._rule_failures else None,
        )

    # How it is done.

    def _start(self) -> None:
        scenario, speeds, ports, folder = self.scenario, self.speeds, self.ports, self.folder
        profile = folder / "device-profile.json"
        save_profile(speeds.profile, profile)
        self._devices = device_runs(scenario, speeds, ports, folder, profile)
        self._add(ServiceProcess("twin", twin_arguments(scenario, ports, folder), folder, ports.twin_http))
        self._add(ServiceProcess("edge", edge_arguments(scenario, speeds, ports, profile), folder, ports.edge_http))
        for name in ("twin", "edge"):
            self._services[name].wait_until_ready()
        self._start_load()
        for device in self._devices:
            self._add(device.service)
        for device in self._devices:
            device.service.wait_until_ready()
        source_started_at_s = max(map(self._source_started_at_s, self._devices))
        self._began_at_s = source_started_at_s + lead_s(scenario)
        if self._load is not None:
            self._load.tell(f"{source_started_at_s + SETTLING_S:.6f}")
        self._await_plan(source_started_at_s + SETTLING_S)

    @property
    def _expected(self) -> int:
        return sum(device.expected for device in self._devices)

    def _add(self, service: ServiceProcess) -> None:
        self._services[service.name] = service
        service.start()

    def _start_load(self) -> None:
        if not has_load(self.scenario):
            return
        trace = self.folder / LOAD_TRACE_NAME
        instants_s = load_instants_s(self.scenario, self.speeds.edge_whole_s)
        trace.write_text("".join(f"{instant_s:.6f}\n" for instant_s in instants_s), encoding="utf-8")
        arguments = load.arguments(
            address(self.ports.edge),
            self.scenario.model,
            trace,
            self.scenario.load_seed,
            self.speeds.edge_whole_s,
            self.scenario.warm_up_s + self.scenario.seconds + PATIENCE_S,
        )
        self._load = ServiceProcess("load", arguments, self.folder)
        self._load.start()
        deadline_s = time.monotonic() + ATTACH_TIMEOUT_S
        while load.READY not in _text(self._load.output_path):
            self._load.check()
            if time.monotonic() > deadline_s:
                raise RunStalledError(f"the load does not reach the edge; its last lines: {self._load.last_lines()}")
            time.sleep(LOOK_EVERY_S)

    def _source_started_at_s(self, device: DeviceRun) -> float:
        started_at_s = device.source_started_at_s(ATTACH_TIMEOUT_S)
        if started_at_s is None:
            raise RunStalledError(f"the source of {device.name} does not start: {device.service.last_lines()}")
        return started_at_s

    def _await_plan(self, deadline_s: float) -> None:
        """Every device must hold a plan that knows the edge before load and tasks come."""
        reason: str | None = ""
        while time.monotonic() < max(deadline_s, self._began_at_s - self.scenario.warm_up_s):
            self._check()
            reason = None
            if sample(self._services["edge"].metrics(), "twinsplit_twin_attached") != 1.0:
                reason = "the edge is not attached to the twin"
            reasons = (device.unready_reason() for device in self._devices)
            reason = reason or next((found for found in reasons if found is not None), None)
            if reason is None:
                return
            time.sleep(LOOK_EVERY_S)
        raise RunStalledError(
            f"not ready {SETTLING_S:g} s after the device's source started: {reason}; this machine may be too busy; "
            f"last lines of the device: {self._services['device'].last_lines()}; of the twin: "
            f"{self._services['twin'].last_lines()}"
        )

    def _check(self) -> None:
        for service in self._services.values():
            service.check()
        if self._load is not None and time.monotonic() < self._began_at_s + self.scenario.seconds:
            self._load.check()

    def _scrape(self) -> None:
        for name, service in self._services.items():
            samples = service.metrics()
            self._signalling.read(name, samples)
            if name == "edge":
                self._backlog_s = sample(samples, "twinsplit_backlog_seconds")
            if name == "twin" and (accuracy := sample(samples, "twinsplit_mirror_accuracy")) is not None:
                self._mirror_accuracy = accuracy
            if name == "twin" and (failures := sample(samples, "twinsplit_rule_failures_total")) is not None:
                self._rule_failures = round(failures)

    def _last_rule_failure(self) -> str | None:
        """As the twin told it."""
        for line in reversed(_text(self._services["twin"].log_path).splitlines()):
            with contextlib.suppress(ValueError):
                event: dict[str, Any] = json.loads(line)
                if event.get("event") == "rule-failed":
                    return str(event["cause"])
        return None

    def _load_summary(self) -> dict[str, Any]:
        lines = [] if self._load is None else _text(self._load.output_path).splitlines()
        for line in reversed(lines):
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
        return {}

    def _stop_services(self) -> None:
        if self._load is not None:
            self._load.stop()  # before the edge, whose refusals would count as the load's
        for service in self._services.values():
            service.ask_to_stop()
        for service in self._services.values():
            service.stop()

    def _end(self) -> None:
        try:
            self._stop_services()
        finally:
            self._stopping.remove()
            if self._is_folder_ours:
                shutil.rmtree(self.folder, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
