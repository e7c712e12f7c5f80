"""Pages of the site: links as each page needs them, and a reference that leaves out no module."""

from __future__ import annotations

import pytest

pytest.importorskip("mkdocs")

from mkdocs.exceptions import PluginError

from tests.helpers.source_tree import modules
from tools import site_hooks
from tools.site_hooks import ROOT, relocated


@pytest.mark.parametrize(
    ("text", "page", "want"),
    [
        ("[a](docs/masks.md#cells)", "index.md", "[a](masks.md#cells)"),
        ("![a](docs/pictures/pipeline.svg)", "index.md", "![a](pictures/pipeline.svg)"),
        ("[a](CONTRIBUTING.md)", "index.md", "[a](contributing.md)"),
        ("[a](docs/masks.md)", "tables/x.md", "[a](../masks.md)"),
        ("[passes/base.py](passes/base.py)", "index.md", "`passes/base.py`"),
        ("[the contract](passes/base.py)", "index.md", "the contract (`passes/base.py`)"),
        ("[a](https://example.org/x.md) [b](#c)", "index.md", "[a](https://example.org/x.md) [b](#c)"),
        ("```\n[a](no.md)\n```", "index.md", "```\n[a](no.md)\n```"),
    ],
)
def test_links_lead_to_where_the_site_has_them(text: str, page: str, want: str) -> None:
    assert relocated(text, ROOT, page) == want


@pytest.mark.parametrize("path", ["no.md", "../outside.md", "docs/no.png"])
def test_a_link_to_no_file_ends_the_build(path: str) -> None:
    with pytest.raises(PluginError, match="no file"):
        relocated(f"[a]({path})", ROOT, "index.md")


def test_the_reference_has_every_module() -> None:
    shown = {module for found in site_hooks.packages().values() for module in found}
    assert shown == set(modules()) - {"segc.__main__"}
    assert "segc.passes.cleanup" in site_hooks.packages()


def test_every_pass_is_in_the_table_of_passes() -> None:
    from segc.passes.registry import REGISTRY

    table = site_hooks.passes()
    assert [name for name in REGISTRY if f"`{name}`" not in table] == []
