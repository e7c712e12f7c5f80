"""Results of engines that run on other machines: a GPU, a runtime built from source.

`segc matrix -o PAGE` on such a machine writes them; `segc matrix --results JSON` takes them for engines that do not run
here, where the lowered graph is still the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from segc.support_matrix.cells import HYBRID, OK, Cell

KEY = "ran_with"


def ran_with(cells: Sequence[Cell]) -> dict[str, str]:
    """Per target what its engines ran on here, and when; only targets that say."""
    from segc.targets import registry

    ran = dict.fromkeys(cell.target for cell in cells if cell.status in (OK, HYBRID) and not cell.ran_with)
    described = {name: registry.get(name).runs_on() for name in ran}
    return {name: f"{text} on {date.today().isoformat()}" for name, text in described.items() if text}


def phrase(words: str) -> str:
    """'with ppl.nn …' or 'on GPU …'."""
    return f"{'on' if words.startswith('GPU ') else 'with'} {words}"


def merged(cells: Sequence[Cell], content: Mapping[str, Any], found: Sequence[Cell]) -> list[Cell]:
    """The cells; those whose engine did not run here take what `content` found elsewhere for the same graph.

    A result that failed there is taken as well. found: the cells of `content`.
    """
    elsewhere = {cell.place: cell for cell in found if cell.target in content.get(KEY, {})}
    return [_taken(cell, elsewhere.get(cell.place), content.get(KEY, {})) for cell in cells]


def _taken(cell: Cell, there: Cell | None, words: Mapping[str, str]) -> Cell:
    if there is None or cell.status in (OK, HYBRID) or not cell.good:
        return cell
    if not cell.graph or cell.graph != there.graph or cell.sizes != there.sizes:
        return replace(cell, reason=f"{cell.reason}; the graph has changed since it ran {phrase(words[cell.target])}")
    return replace(there, seconds=cell.seconds, reason=there.reason, ran_with=words[cell.target])
