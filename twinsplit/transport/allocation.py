"""glibc's malloc thresholds for a process that moves tensors, or plans in arrays of such sizes.

By default glibc maps and unmaps blocks above 128 KiB, so that each tensor's pages are faulted in anew;
keeping them took a sixth to a third off a round trip (design section 10), and 74 page faults off each of eight plans
that are made at once.
"""

from __future__ import annotations

import ctypes
import platform

HEAP_BLOCK_BYTES = 32 << 20
"""Blocks up to this size come from the heap; the most that glibc accepts on 64-bit machines."""
KEPT_BYTES = 64 << 20
"""This much free memory is kept at the heap's top before any is given back."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Set the thresholds of this process. Call it once at a service's entry point; off glibc it does nothing."""
    if platform.libc_ver()[0] != "glibc":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt(_M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
