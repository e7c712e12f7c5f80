"""The page: one HTML file without any reference to elsewhere, made of what bundles hold."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.reporting import view

if TYPE_CHECKING:
    import jinja2


def written(bundle: Path, name: str) -> bytes:
    """The page of one bundle, under this name."""
    return _page([view.column(bundle, name=name)])


def render(
    bundles: Sequence[Path], profiles: Sequence[Mapping[str, Any]] = (), scores: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """The page about these bundles, as columns in this order.

    profiles: those in `segc bench --profile --json`. scores: contents of val.json. Raises BundleError, FileError.
    """
    return _page([view.column(bundle, profiles) for bundle in bundles], [view.scores(one) for one in scores])


def _page(columns: Sequence[view.Column], scores: Sequence[view.ClassScores] = ()) -> bytes:
    style, script = _part("report.css"), _part("report.js")
    made = _template().render(
        columns=columns, scores=scores,
        style=style, script=script, script_digest=_digest(script), style_digest=_digest(style),
    )  # fmt: skip
    return made.encode("utf-8", errors="replace")


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("report.html"))


@cache
def _part(name: str) -> str:
    return resources.files("segc.reporting").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What the page's content security policy calls its own script and style by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
