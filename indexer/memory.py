"""Memory available to this process, and memory it has used."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available() -> int | None:
    """Bytes still free on the machine or in this process's container, whichever is less; None if
    unknown."""
    limits = [_of_machine(), *(_of_container(*files) for files in _CGROUPS)]
    known = [value for value in limits if value is not None]
    return max(0, min(known)) if known else None


def give_back() -> None:
    """Return freed memory to the system; glibc otherwise holds on to it."""
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def begin_peak() -> None:
    """Reset `peak`, where the system supports that (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The largest resident size of this process in bytes, since `begin_peak` where that is
    supported; 0 if unknown."""
    with suppress(OSError, KeyError, ValueError):
        return _kernel_figure("/proc/self/status", "VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _of_machine() -> int | None:
    try:
        return _kernel_figure("/proc/meminfo", "MemAvailable")
    except (OSError, KeyError, ValueError):
        pass
    try:  # not Linux: free memory is unknown, so half of all memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError, AttributeError):
        return None


def _kernel_figure(file: str, field: str) -> int:
    """Bytes from a line `field: … kB` of a file below /proc."""
    lines = Path(file).read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[field].split()[0]) * 1024


def _of_container(limit: str, used: str) -> int | None:
    try:
        return int(Path(limit).read_text()) - int(Path(used).read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return None


def readable_bytes(count: int) -> str:
    """Bytes with a unit: 1,234,567 → 1.2 MB."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
