"""Flags before variables before the file before defaults, each value with its origin, and nothing unknown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from twinsplit.errors import SettingsError, TlsError
from twinsplit.settings import BaseServiceSettings, Origin, flag_name, load_settings, ordered_keys, variable_name
from twinsplit.transport.tls import TlsFiles
from twinsplit.types import DropPolicy

Sample = type[BaseServiceSettings]


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "device.toml"
    path.write_text(text)
    return path


def _load(sample: Sample, path: Path | None = None, **flags: object) -> Any:
    return load_settings(sample, path, flags)


def test_the_nearest_place_wins(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, 'id = "file"\nqueue_capacity = 5\nperiod_s = 5.0\n')
    monkeypatch.setenv("TWINSPLIT_DEVICE_ID", "variable")
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACITY", "6")
    loaded = _load(sample, path, id="flag")
    assert (loaded.values.id, loaded.values.queue_capacity, loaded.values.period_s) == ("flag", 6, 5.0)
    assert [loaded.origins[key] for key in ("id", "queue_capacity", "period_s", "mode")] == [
        Origin.FLAG,
        Origin.VARIABLE,
        Origin.FILE,
        Origin.DEFAULT,
    ]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("id", "7", "7"),
        ("queue_capacity", "12", 12),
        ("period_s", "1e-3", 0.001),
        ("drop_policy", "oldest-stays", DropPolicy.OLDEST_STAYS),
        ("mode", "polled", "polled"),
        ("is_sent", "true", True),
        ("is_sent", "0", False),
        ("model", "some/folder", Path("some/folder")),
        ("sinks", "-, answers.jsonl", ("-", "answers.jsonl")),
        ("sinks", "one", ("one",)),
        ("log_level", "debug", "debug"),
    ],
)
def test_every_type_can_be_a_variable(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, key: str, text: str, value: object
) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_ID", "d1")
    monkeypatch.setenv(f"TWINSPLIT_DEVICE_{key.upper()}", text)
    assert getattr(_load(sample).values, key) == value


def test_a_file_may_begin_with_a_byte_order_mark(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text('id = "d1"\n', encoding="utf-8-sig")
    assert load_settings(sample, path).values.id == "d1"


def test_an_empty_variable_is_not_set(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACITY", "")
    loaded = _load(sample, id="d1")
    assert (loaded.values.queue_capacity, loaded.origins["queue_capacity"]) == (4, Origin.DEFAULT)


def test_a_flag_that_was_not_given_is_none(sample: Sample) -> None:
    assert _load(sample, id="d1", queue_capacity=None).values.queue_capacity == 4


def test_variables_of_other_services_are_theirs(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_EDGE_THREADS", "4")
    monkeypatch.setenv("TWINSPLIT_EDGE_NO_SUCH_SETTING", "4")
    assert _load(sample, id="d1").values.id == "d1"


def test_constructing_directly_reads_nothing(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACITY", "9")
    monkeypatch.setenv("QUEUE_CAPACITY", "9")
    assert sample(id="d1").queue_capacity == 4


def test_settings_never_change(sample: Any) -> None:
    settings = sample(id="d1")
    with pytest.raises(ValidationError, match="frozen"):
        settings.id = "d2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("queue_capcity = 3", "device.toml: queue_capcity is not a setting of device; did you mean queue_capacity"),
        ("nothing_like_it_zz = 3", "twinsplit config show device"),
        ("[uplink]\nrate = 1", "device.toml: uplink is not a setting"),
        ("queue_capacity = ", "is not TOML"),
        ("queue_capacity = " + "9" * 5000, "without end"),
        ("log_level = 0x" + "f" * 5000, "log_level: that does not fit"),
        ("queue_capacity = " + "[" * 5000, "without end"),
        ("queue_capacity = 0", "device.toml: queue_capacity: 0 does not fit: it should be greater than or equal to 1"),
        ('queue_capacity = "many"', "(Most tasks that wait.)"),
        ('mode = "other"', "'plan' or 'polled'"),
        ('drop_policy = "x"', "'newest-wins' or 'oldest-stays'"),
        ("is_sent = 7", "is_sent"),
        ("period_s = 0", "greater than 0"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_place(sample: Sample, tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(sample, _file(tmp_path, text), id="d1")
    assert says in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        _load(sample, tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="Is a directory"):
        _load(sample, tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'id = "\xe9"')
    with pytest.raises(SettingsError, match="not UTF-8"):
        _load(sample, tmp_path / "latin.toml")


def test_an_unknown_variable_is_refused_by_name(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACTY", "3")
    with pytest.raises(SettingsError, match=r"TWINSPLIT_DEVICE_QUEUE_CAPACTY is not a setting.*queue_capacity"):
        _load(sample, id="d1")


def test_an_impossible_variable_is_refused_by_name(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_PERIOD_S", "soon")
    with pytest.raises(SettingsError, match="TWINSPLIT_DEVICE_PERIOD_S: 'soon' does not fit"):
        _load(sample, id="d1")


def test_an_impossible_flag_is_refused_by_name(sample: Sample) -> None:
    with pytest.raises(SettingsError, match="--queue-capacity: '-1' does not fit"):
        _load(sample, id="d1", queue_capacity="-1")


def test_a_needed_setting_says_the_three_places(sample: Sample) -> None:
    with pytest.raises(SettingsError, match=r"--id is needed.*TWINSPLIT_DEVICE_ID.*--config"):
        _load(sample)


def test_tls_files_come_from_settings(sample: Any) -> None:
    settings = sample(id="d1", tls_ca="ca.pem", tls_cert="c.pem", tls_key="k.pem")
    assert settings.tls == TlsFiles(Path("ca.pem"), Path("c.pem"), Path("k.pem"))
    with pytest.raises(TlsError):
        _ = sample(id="d1", tls_cert="c.pem").tls


def test_names_of_a_setting_follow_from_its_key(sample: Sample) -> None:
    assert flag_name("queue_capacity") == "--queue-capacity"
    assert variable_name(sample, "queue_capacity") == "TWINSPLIT_DEVICE_QUEUE_CAPACITY"


def test_the_services_own_settings_come_first(sample: Sample) -> None:
    keys = ordered_keys(sample)
    assert keys[0] == "id"
    own = len(BaseServiceSettings.model_fields)
    assert set(keys[-own:]) == set(BaseServiceSettings.model_fields)


def test_a_slip_in_the_service_of_a_variable_is_refused(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVCIE_QUEUE_CAPACITY", "6")
    with pytest.raises(SettingsError, match="did you mean TWINSPLIT_DEVICE_QUEUE_CAPACITY"):
        _load(sample, id="d")


@pytest.mark.parametrize(
    "name", ["TWINSPLIT_TLS_CA", "TWINSPLIT_EDGE_MODEL", "TWINSPLIT_PORT", "TWINSPLIT_ENGINES_PYTHON"]
)
def test_variables_of_others_are_theirs(sample: Sample, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert _load(sample, id="d").values.id == "d"
