"""Every connection is an open file, and shells start programs with room for about a thousand of them."""

from __future__ import annotations

import resource

MOST = 65_536
"""As in the systemd units."""


def allow_many_connections() -> int:
    """Raise this process's limit of open files as far as it may, up to :data:`MOST`: the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS calls it unlimited and allows less
        return soft
    return wanted
