"""Front-end rewrites: applied only inside the block, undone on the way out, silent about what they leave alone."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from segc.frontend import torchvision_import
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.rewrites import table
from segc.frontend.rewrites.base import Rewrite, Versions, release
from segc.frontend.trace import trace


def test_only_what_fired_is_named_and_the_functions_are_restored() -> None:
    before = torch._C._nn.adaptive_avg_pool2d
    with table.applied() as applied:
        assert torch._C._nn.adaptive_avg_pool2d is not before
        assert applied.fired == []
    assert torch._C._nn.adaptive_avg_pool2d is before
    x = torch.ones(1, 1, 4, 4)
    with table.applied() as applied:
        for _ in range(2):
            torch._C._nn.adaptive_avg_pool2d(x, [2, 2])
    assert applied.fired == ["adaptive-avg-pool"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_they_are_undone_when_the_block_raises(dynamic: bool) -> None:
    import_mmseg()
    here = [r for r in table.REWRITES if r.place() is not None]  # of packages that are installed
    before = [(owner := r.place(), dict(vars(owner)).get(r.attribute)) for r in here]
    with pytest.raises(KeyboardInterrupt), table.applied(dynamic=dynamic):
        now = [vars(r.place()).get(r.attribute) for r in here]
        changed = [a is not b for a, (_, b) in zip(now, before, strict=True)]
        assert changed == [dynamic or not r.dynamic for r in here]
        raise KeyboardInterrupt
    assert [(r.place(), vars(r.place()).get(r.attribute)) for r in here] == before
    assert torch.equal(F.adaptive_avg_pool2d(torch.ones(1, 1, 4, 4), 2), torch.ones(1, 1, 2, 2))


def test_a_size_that_is_no_plain_number_is_left_to_torch() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with table.applied():
        kept = torch._C._nn.adaptive_avg_pool2d(x, [torch.tensor(2), torch.tensor(2)])  # type: ignore[list-item]
    assert torch.equal(kept, F.adaptive_avg_pool2d(x, 2))


def test_names_are_unique_and_described() -> None:
    names = [r.name for r in table.REWRITES]
    assert len(set(names)) == len(names)
    assert all(r.summary for r in table.REWRITES)


def test_rewrites_name_places_that_the_installed_versions_have() -> None:
    import_mmseg()
    missing = set()
    try:
        import mmdet.models  # noqa: F401
    except ImportError:
        missing.add(table.MMDET)
    try:
        torchvision_import.prepare()
        import transformers.models.focalnet.modeling_focalnet
        import transformers.models.mask2former.modeling_mask2former
        import transformers.models.maskformer.modeling_maskformer
        import transformers.models.maskformer.modeling_maskformer_swin
        import transformers.models.mobilenet_v2.modeling_mobilenet_v2
        import transformers.models.mobilevit.modeling_mobilevit
        import transformers.models.mobilevitv2.modeling_mobilevitv2
        import transformers.models.swin.modeling_swin
        import transformers.models.swinv2.modeling_swinv2  # noqa: F401
    except ImportError:
        missing.add(table.TRANSFORMERS)
    for rewrite in (each for each in table.REWRITES if each.fits not in missing):
        owner = rewrite.place()
        assert owner is not None
        assert hasattr(owner, rewrite.attribute) or hasattr(builtins, rewrite.attribute)
        assert (rewrite.fits is None) == (not isinstance(rewrite.owner, str))
        assert rewrite.fits is None or rewrite.fits.misfit() is None


def test_a_module_that_is_not_imported_has_nothing_to_rewrite() -> None:
    assert Rewrite("r", "s", "no.such.module:Class", "forward", lambda f: f).place() is None


def test_versions_are_a_half_open_range_of_releases() -> None:
    found = [release(v) for v in ("1.2.2", "1.4.2", "2.0rc1", "1.2.3.post1", "unknown", "1")]
    assert found == [(1, 2), (1, 4), (-1, -1), (1, 2), (-1, -1), (-1, -1)]


@pytest.mark.parametrize(("version", "fits"), [("0.9.1", False), ("1.0.0", True), ("1.4.9", True), ("1.5.0", False)])
def test_another_version_is_left_alone_and_said(monkeypatch: pytest.MonkeyPatch, version: str, fits: bool) -> None:
    package = ModuleType("package_of_a_test")
    package.__version__ = version  # type: ignore[attr-defined]
    package.double = lambda x: 2 * x  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)

    def quadruple(original: Callable[[int], int]) -> Callable[[int], Any]:
        return lambda x: 2 * original(x)

    versions = Versions(package.__name__, (1, 0), (1, 5))
    rewrite = Rewrite("quadruple", "doubles twice", package.__name__, "double", quadruple, fits=versions)
    monkeypatch.setattr(table, "REWRITES", (rewrite,))
    with table.applied() as applied:
        assert package.double(1) == (4 if fits else 2)
    wanted = f"{package.__name__} >= 1.0, < 1.5"
    refusal = f"rewrite 'quadruple' is not applied: it is written for {wanted}, and {version} is installed"
    assert applied.refused == ([] if fits else [refusal])
    assert applied.fired == (["quadruple"] if fits else [])
    assert trace(torch.nn.Conv2d(3, 2, 1), (1, 3, 8, 8), opset=20).notes == tuple(applied.refused)
