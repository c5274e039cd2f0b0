from __future__ import annotations

from pathlib import Path

import pytest

import benchmarks.scenario
from benchmarks.scenario import SHIPPED_MODEL, Scenario, changed_scenario, read_scenario
from benchmarks.testbed.scenarios import DEMO
from twinsplit.errors import SettingsError

FOLDER = Path(benchmarks.scenario.__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_of_the_repository_can_be_read_and_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")
    scenario = read_scenario(path)
    assert scenario.tasks is not None


def test_the_file_of_the_demo_is_the_demo() -> None:
    found = read_scenario(FOLDER / "demo.yaml")
    assert changed_scenario(found, tasks=None, warm_up_tasks=0) == DEMO


def test_a_file_with_nothing_about_a_model_takes_the_shipped_one(tmp_path: Path) -> None:
    assert read_scenario(written(tmp_path, "task_rate_per_s: 2\n")).model == SHIPPED_MODEL


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "load.csv").write_text("0.5\n1.5\n")
    text = f"model: {SHIPPED_MODEL}\nload_pattern: trace\nload_trace: load.csv\n"
    shape = read_scenario(written(tmp_path, text)).load_shape
    assert shape is not None
    assert shape.trace_s == (0.5, 1.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task_rate: 2", "task_rate: a scenario has no such key; did you mean task_rate_per_s?"),
        ("wishes: 2", "wishes: a scenario has no such key; there are model, "),
        ("task_rate_per_s: -2", "task_rate_per_s: -2 does not fit: .*greater than or equal to 0.0001"),
        ("task_rate_per_s: .nan", "task_rate_per_s"),
        ("devices: 0", "devices: 0 does not fit"),
        ("arrivals: sometimes", "arrivals: 'sometimes' does not fit: .*'poisson'"),
        ("payloads: none", "payloads: 'none' does not fit"),
        ("device_factors: []", "device_factors"),
        ("load_pattern: trace", "load_pattern: trace needs load_trace"),
        ("arrivals: trace", "arrivals: trace needs arrival_trace"),
        ("uplink: two-state\nuplink_bytes_per_s: 1000", "uplink: two-state needs uplink_bad_bytes_per_s"),
        ("step_load_share: 0.5", "step_load_share needs step_at_s"),
        ("step_load_sizes: heavy", "step_load_sizes needs step_at_s"),
        ("load_share: 0.9\nload_peak: 0.5", "load_peak: 0.5 is below load_share 0.9, .*; raise load_peak or lower"),
        ("load_pattern: heavy\nload_share: 2", "load_peak: 1.8 is below load_share 2"),
        ("step_at_s: 3\nstep_load_share: 1.9", "load_peak: 1.8 is below step_load_share 1.9"),
        ("tasks: 100\nwarm_up_tasks: 100", "warm_up_tasks: 100 leave nothing of 100 tasks"),
        ("model: nowhere", "model: there is no .*nowhere/manifest.json"),
        ("load_pattern: trace\nload_trace: nowhere.csv", "nowhere.csv"),
        ("- 1\n- 2", "write one KEY: VALUE on each line"),
        ("a: [1", "not YAML"),
        ("", "write one KEY: VALUE on each line"),
        ("tasks: " + "9" * 5000, "cannot be"),
        ("tasks: " + "[" * 3000, "cannot be"),
        ("arrivals: 0x" + "f" * 5000, "arrivals: that does not fit"),
        ('model: "a\\0b"', "there is no"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text + "\n")
    with pytest.raises(SettingsError, match=said) as refused:
        read_scenario(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_scenario(tmp_path / "none.yaml")
    (tmp_path / "scenario.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not text"):
        read_scenario(tmp_path / "scenario.yaml")


def test_devices_have_arrivals_of_their_own_that_do_not_depend_on_how_many_there_are() -> None:
    few, many = (Scenario(devices=count) for count in (2, 50))
    for device in (0, 1):
        one, other = few.endless_arrivals_s(device), many.endless_arrivals_s(device)
        assert [next(one) for _ in range(5)] == [next(other) for _ in range(5)]
    first, second = few.endless_arrivals_s(0), few.endless_arrivals_s(1)
    assert [next(first) for _ in range(5)] != [next(second) for _ in range(5)]


def test_bursts_of_arrivals_keep_the_mean_rate() -> None:
    bursty = Scenario(arrivals="onoff", task_rate_per_s=4.0, arrival_burst_s=1.0, arrival_peak=3.0, seconds=4_000.0)
    instants = bursty.arrivals_s()
    assert len(instants) / 4_000.0 == pytest.approx(4.0, rel=0.1)
    per_second = [0] * 4_001
    for at_s in instants:
        per_second[int(at_s)] += 1
    mean = sum(per_second) / len(per_second)
    assert sum((count - mean) ** 2 for count in per_second) / len(per_second) > 1.5 * mean
