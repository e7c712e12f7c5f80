"""Peak memory of this process."""

from __future__ import annotations

import sys


def peak_memory_mb() -> int:
    """Peak resident memory of this process; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
