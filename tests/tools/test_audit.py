"""The audit names packages with known vulnerabilities, and says when the index answered for none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tools import audit

Answer = Callable[[dict[str, object]], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Sets what pip-audit prints; it asks the index, which tests must not depend on."""

    def set_answer(content: dict[str, object]) -> None:
        done = subprocess.CompletedProcess([], 0, json.dumps(content), "")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    return set_answer


def test_vulnerabilities_fail(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"id": "CVE-1", "fix_versions": ["2.0"]}
    answer({"dependencies": [{"name": "a", "version": "1.0", "vulns": [found]}, {"name": "b", "skip_reason": "?"}]})
    assert audit.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "a 1.0: CVE-1, fixed in 2.0", "1 of 2 packages audited, 1 known vulnerabilities",
    ]  # fmt: skip


def test_none_pass(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"dependencies": [{"name": "a", "version": "1.0", "vulns": []}]})
    assert audit.main() == 0
    assert "1 of 1 packages audited, 0 known" in capsys.readouterr().out


@pytest.mark.parametrize("content", [{"dependencies": [{"name": "a", "skip_reason": "not found"}]}, {}])
def test_an_index_that_does_not_answer_is_said(
    content: dict[str, object], answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(content)
    assert audit.main() == 0
    assert "nothing was audited" in capsys.readouterr().out
