"""Every code is explained with a way out, on the page and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segc.errors import Code
from segc.errors.reference import EXPLANATIONS, explain, with_reference
from tests.helpers.calls import segc as command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_explained_with_a_way_out(code: Code) -> None:
    entry = EXPLANATIONS[code]
    assert entry.title and entry.meaning.endswith(".") and entry.way_out.endswith(".")
    assert entry.way_out in explain(code) and explain(code).startswith(f"{code}  ")


def test_the_page_holds_the_explanations() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == with_reference(page), "make generated"
    assert all(f"#### {code}\n" in page for code in Code)


def test_the_command_explains_a_code() -> None:
    for text in ("SEGC-S303", "s303", "[SEGC-S303]"):
        assert command("explain", text).out.startswith("SEGC-S303  The engine does not take this size\n")
    content = json.loads(command("explain", "SEGC-S303", "--json").out)
    assert (content["code"], content["exit_code"]) == ("SEGC-S303", 3) and content["way_out"]
    refused = command("explain", "SEGC-S999")
    assert refused.code == 2 and "there is no error code 'SEGC-S999'" in refused.err
