"""Peak memory of this process."""

from __future__ import annotations

import sys


def peak_memory_mb() -> int:
    """The peak resident memory of this process in MB; 0 on systems that do not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
