from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scenario import SHIPPED_MODEL, Scenario, changed_scenario, read_scenario, with_settings
from benchmarks.testbed.scenarios import DEMO
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import manifest_digest

NAMES = [f"{number:04d}.jpg" for number in range(20)]


def test_every_rule_meets_the_same_arrivals_frames_and_load() -> None:
    first, second = (changed_scenario(DEMO, rule=rule) for rule in ("one-time", "multi-step"))
    assert first.arrivals_s() == second.arrivals_s()
    assert first.frame_order(NAMES, 50) == second.frame_order(NAMES, 50)
    assert first.load_seed == second.load_seed


def test_another_seed_gives_other_arrivals_frames_and_load() -> None:
    other = changed_scenario(DEMO, seed=2)
    assert other.arrivals_s() != DEMO.arrivals_s()
    assert other.frame_order(NAMES, 20) != DEMO.frame_order(NAMES, 20)
    assert other.load_seed != DEMO.load_seed


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    short, long = (changed_scenario(DEMO, seconds=seconds).arrivals_s() for seconds in (5.0, 15.0))
    assert long[: len(short)] == short
    assert short[-1] <= 5.0 < long[-1] <= 15.0


def test_a_very_short_run_has_one_task_at_least() -> None:
    assert changed_scenario(DEMO, seconds=1e-6).arrivals_s() == [1e-6]


def test_periodic_arrivals_keep_their_distance() -> None:
    periodic = changed_scenario(DEMO, arrivals="periodic", task_rate_per_s=4.0, seconds=2.0)
    assert periodic.arrivals_s() == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])


def test_no_frame_is_shown_twice_before_all_were_shown() -> None:
    order = DEMO.frame_order(NAMES, 30)
    assert len(order) == 30
    assert sorted(order[:20]) == NAMES


def test_a_recorded_scenario_is_refused_with_another_model(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    path = tmp_path / "recorded.yaml"
    digest = manifest_digest((SHIPPED_MODEL / "manifest.json").read_bytes())
    path.write_text(f"model_digest: {digest}\n")
    scenario = read_scenario(path)
    refusal = r"model_digest: .* is another model .*name the folder of that one: `model: FOLDER`"
    with pytest.raises(SettingsError, match=refusal):
        with_settings(scenario, [f"model={tmp_path}"])
    path.write_text(f"model: .\nmodel_digest: {digest}\n")
    with pytest.raises(SettingsError, match=refusal):
        read_scenario(path)


def test_settings_of_the_command_line_change_a_scenario() -> None:
    changed = with_settings(
        DEMO, ["task-rate-per-s=2", "load_burst_s=1.5", "uplink_bytes_per_s=none", "device_settings=--payloads=any"]
    )
    assert (changed.task_rate_per_s, changed.load_burst_s, changed.uplink_bytes_per_s) == (2.0, 1.5, None)
    assert changed.device_settings == ("--payloads=any",)
    assert changed.seconds == DEMO.seconds


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("task_rate=2", "did you mean task_rate_per_s"),
        ("seconds", "write KEY=VALUE"),
        ("seconds=-1", "greater than 0"),
        ("seconds=nan", "finite"),
        ("load_burst_s=soon", "valid number"),
        ("device_slowdown=0.5", "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_cure(setting: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        with_settings(DEMO, [setting])


def test_a_load_share_of_nothing_is_no_load() -> None:
    assert changed_scenario(DEMO, load_share=0.0).load_shape is None


def test_the_description_has_no_path_of_this_machine() -> None:
    described = Scenario(model=Path("/somewhere/models/net/3")).described()
    assert described["model"] == "net/3"
    assert not any(str(value).startswith("/") for value in described.values())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("task_rate_per_s: 5\ntask_rate_per_s: 50\n", "a key stands twice"),
        ("device_whole_s: true\n", "True is no number"),
        ("task_rate_per_s: 1.0e-300\n", "task_rate_per_s"),
        ("load_burst_s: 1.0e-9\n", "load_burst_s"),
    ],
)
def test_what_would_never_end_or_is_said_twice_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=problem):
        read_scenario(file)


def test_a_folder_named_on_the_command_line_must_be_there() -> None:
    with pytest.raises(SettingsError, match=r"--set: frames: there is no /nowhere"):
        with_settings(Scenario(), ["frames=/nowhere"])
