"""The memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory_mb() -> int:
    """The peak resident memory of this process in MB; 0 on systems that do not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def resident_memory_mb() -> int:
    """The resident memory of this process now, in MB; 0 on systems without /proc."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (ImportError, OSError, ValueError, IndexError):
        return 0
    return round(pages * resource.getpagesize() / (1 << 20))
