import pytest

from twinsplit.model.progress_line import ProgressLine


def test_a_terminal_sees_one_line_that_is_rewritten_and_wiped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = ProgressLine()
    line("reading", 0, 1)
    assert "reading ..." in capsys.readouterr().err
    line("measuring", 10, 10)
    shown = capsys.readouterr().err
    assert shown.startswith("\r\x1b[K")
    assert "measuring: 10 of 10" in shown
    assert "\n" not in shown
    line.close()
    assert capsys.readouterr().err.endswith("\x1b[K")


def test_elsewhere_a_line_appears_only_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    line = ProgressLine()
    line("measuring", 1, 100)
    assert capsys.readouterr().err == ""
    now_s = 111.0
    line("measuring", 10, 100)
    assert capsys.readouterr().err == "measuring: 10 of 100, about 99 s left\n"
    line.close()
    assert capsys.readouterr().err == ""
