"""What the processor is called and which of its instructions decide how fast an engine is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_KNOWN = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name, cores and instruction sets in a line, as far as the system says."""
    try:
        text = cpuinfo.read_text()
    except OSError:  # not Linux
        text = ""
    name = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    had = set(flags[1].split()) if flags else set()
    called = name[1].strip() if name else platform.processor() or platform.machine()
    cores = f"{os.cpu_count()} cores"
    return ", ".join(filter(None, [called, cores, " ".join(each for each in _KNOWN if each in had)]))
