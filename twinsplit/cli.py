"""The command ``twinsplit``: nouns from the entry point group ``twinsplit.commands``, loaded when they are used."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import click

from twinsplit import __version__
from twinsplit.errors import ConfigurationError, StorageError, TwinsplitError

COMMAND_GROUP = "twinsplit.commands"
INTERRUPTED_EXIT_CODE = 130
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FORBIDDEN = (errno.EACCES, errno.EPERM)

_SUMMARIES = {
    "bench": "Benchmarks beside a bare baseline (needs the source tree).",
    "certs": "Make certificates for twin, edges, devices and operators.",
    "config": "Settings in force and where each came from.",
    "demo": "Twin, edge and device on this machine under a bursty load.",
    "device": "Run a device, submit frames to it, ask how it stands.",
    "doctor": "See whether a device has all that it needs here, with the cure for what it lacks.",
    "edge": "Serve an edge, or put load on one.",
    "model": "Split ONNX models, give them exits, check, inspect and profile them.",
    "sim": "Simulate rules on scenario files (needs the source tree).",
    "top": "The live console in the terminal.",
    "twin": "Serve the twin service, or look into its twins.",
}
_EXTRAS = {
    "bench": "dev",
    "certs": "twin",
    "demo": "demo",
    "device": "device-cpu",
    "doctor": "device-cpu",
    "edge": "edge-cpu",
    "model": "model",
    "sim": "dev",
    "top": "twin",
    "twin": "twin",
}


class NounGroup(click.Group):
    """Imports a noun only when it is used, so that ``--help`` is fast and a missing extra harms no other noun."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), "config", *_nouns()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "config":
            from twinsplit.config_command import config

            return config
        noun = _nouns().get(cmd_name)
        if noun is None:
            return super().get_command(ctx, cmd_name)
        try:
            command = noun.load()
        except ModuleNotFoundError as error:
            if error.name == noun.module.partition(".")[0]:  # the benchmarks, which the wheel leaves out
                raise ConfigurationError(
                    f"`twinsplit {cmd_name}` needs a checkout of twinsplit, which an installed wheel is not; "
                    f"run `make {cmd_name}` in one"
                ) from None
            raise _not_installed(cmd_name, error.name) from None
        if not isinstance(command, click.Command):
            raise ConfigurationError(f"the entry point {noun.value} is not a click command; reinstall twinsplit")
        return command

    def invoke(self, ctx: click.Context) -> object:
        # Commands import what is heavy once they run.
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            own = {noun.module.partition(".")[0] for noun in _nouns().values()}
            if ctx.invoked_subcommand is None or error.name is None or error.name.partition(".")[0] in own:
                raise
            raise _not_installed(ctx.invoked_subcommand, error.name) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would import every noun for its first line of help.
        rows = [(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Nouns"):
            formatter.write_dl(rows)


@click.group(cls=NounGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="twinsplit")
def twinsplit() -> None:
    """Split DNN inference between a weak device and a shared edge server, task by task."""


def main(prefix: Sequence[str] = (), arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command; with ``prefix`` of a service: ``python -m device`` is ``main(["device", "run"])``.

    Ends the process: 0, the error's exit code, 2 for a wrong command line, 130 when interrupted.
    """
    sys.exit(run([*prefix, *(sys.argv[1:] if arguments is None else arguments)]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; an error is one line on standard error."""
    # gRPC's core writes to standard error past every logger; what matters of it reaches us as statuses.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        result = twinsplit.main(args=list(arguments), prog_name="twinsplit", standalone_mode=False)
    except TwinsplitError as error:
        _tell(" ".join(str(error).split()), error.exit_code)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE
    except MemoryError:
        _tell("there is not enough memory for that; ask for less, or use a machine with more", StorageError.exit_code)
        return StorageError.exit_code
    except OSError as error:
        cure = _cure_of(error)
        if cure is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        _tell(f"{place}{error.strerror}; {cure}", StorageError.exit_code)
        return StorageError.exit_code
    return result if isinstance(result, int) else 0


def _cure_of(error: OSError) -> str | None:
    """What mends an error of files; ``None``: it is a defect."""
    if error.errno in _DISK_ERRORS:
        return "free space or name another place"
    if error.errno in _FORBIDDEN and error.filename:
        return "name a place that this user may use, or change its permissions"
    return None


def _not_installed(noun: str, package: str | None) -> ConfigurationError:
    cure = f"pip install 'twinsplit[{_EXTRAS.get(noun, 'dev')}]'"
    if package == "onnxruntime":
        cure += ", or the ONNX Runtime wheel made for this machine"
    return ConfigurationError(f"`twinsplit {noun}` needs the package {package}, which is not installed; {cure}")


def _tell(text: str, exit_code: int) -> None:
    """An error in a line; where machines read the log, in one that they can read."""
    from twinsplit.telemetry.logs import EventLog, is_json

    if is_json():
        EventLog("cli").error("ended-by-error", error=text, exit_code=exit_code)
    else:
        click.echo(f"twinsplit: {text}", err=True)


def _nouns() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}
