"""The signals that ask a service to finish what it has and stop."""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT, and SIGHUP, which a terminal sends when it is closed, unless it is ignored (as nohup has it).

    A second SIGTERM or SIGINT may end a service at once, but no second SIGHUP: a terminal and its shell send one each.
    """
    is_hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *(() if is_hangup_ignored else (signal.SIGHUP,)))
