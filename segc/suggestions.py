"""Names that resemble what the user typed."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def closest(name: str, known: Collection[str], count: int = 3) -> list[str]:
    """Names that `name` begins, or that resemble it. Zoo names are long: what one types is often their beginning."""
    found = [k for k in known if k.startswith(name)] if len(name) > 2 else []
    alike = difflib.get_close_matches(name, [*known], n=count, cutoff=0.5)
    return list(dict.fromkeys([*found, *alike]))[:count]
