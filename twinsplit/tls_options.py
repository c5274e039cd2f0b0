"""The TLS files of commands that call a service. Services themselves take them as settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def tls_options(peer: str) -> Callable[[F], F]:
    """Give a click command ``--tls-ca``, ``--tls-cert`` and ``--tls-key``, or the variables ``TWINSPLIT_TLS_CA``, ...

    The variables let every command within a container, or a shell, show the same certificate.
    """

    def decorate(function: F) -> F:
        for name, text in (
            ("--tls-key", "Private key of the own certificate (PEM)."),
            ("--tls-cert", "Own certificate chain (PEM)."),
            ("--tls-ca", f"Authority of the {peer}'s certificate (PEM)."),
        ):
            variable = f"TWINSPLIT{name[1:].replace('-', '_').upper()}"
            option = click.option(name, envvar=variable, show_envvar=True, type=click.Path(path_type=Path), help=text)
            function = option(function)
        return function

    return decorate
