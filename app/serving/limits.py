"""How many files this process may have open, and how many connections that leaves room for."""

from __future__ import annotations

from contextlib import suppress

_ENOUGH = 1 << 16
_FOR_OTHERS = 256
"""Files beside connections: databases, static files, models, and connections on their way."""
_UNKNOWN = 512


def raise_file_limit() -> int:
    """Raise the soft limit on open files as far as this process may; the limit."""
    try:
        import resource
    except ImportError:  # Windows
        return _UNKNOWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _ENOUGH if hard == unlimited else min(hard, _ENOUGH)
    if soft == unlimited or soft >= wanted:
        return _ENOUGH if soft == unlimited else soft
    with suppress(ValueError, OSError):  # macOS allows fewer than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def room_for_connections(wanted: int, files: int) -> int:
    """The number of connections: `wanted`, or fewer, so that a process that may have `files` files
    open never runs out of them."""
    return max(1, min(wanted, max(files - _FOR_OTHERS, files // 2)))
