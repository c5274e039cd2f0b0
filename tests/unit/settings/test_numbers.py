from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from twinsplit.numbers import FiniteRange


@click.command()
@click.option("--seconds", type=FiniteRange(min=0, min_open=True))
def command(seconds: float) -> None:
    click.echo(seconds)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "1e999"])
def test_what_is_no_finite_number_within_bounds_is_a_wrong_option(text: str) -> None:
    assert CliRunner().invoke(command, [f"--seconds={text}"]).exit_code == 2


def test_a_number_is_taken() -> None:
    assert CliRunner().invoke(command, ["--seconds=2.5"]).output == "2.5\n"
