from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import segc.passes
from segc.graph.invariants import INVARIANTS
from segc.passes.base import Pass
from segc.passes.registry import FOLDERS, REGISTRY, registry, stub
from tests.helpers.checks import HEAD, graph_of

HERE = Path(segc.passes.__file__).parent
MODULES = {p.stem for folder in FOLDERS for p in (HERE / folder).rglob("*.py") if p.stem != "__init__"}


def test_every_pass_is_registered_under_the_name_of_its_file() -> None:
    assert {step.__module__.split(".")[-1] for step in REGISTRY.values()} == MODULES


def test_type_checkers_see_what_the_registry_holds() -> None:
    assert (HERE / "__init__.pyi").read_text() == stub(), "make generated"


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_package_gives_each_pass_by_its_class_name(name: str) -> None:
    assert getattr(segc.passes, REGISTRY[name].__name__) is REGISTRY[name]


def test_two_passes_of_one_name_are_refused() -> None:
    class Other(Pass):
        name = "simplify"

    with pytest.raises(ValueError, match="two passes are called 'simplify'"):
        registry(REGISTRY["simplify"], Other)


def test_the_short_import_name_is_refused() -> None:
    spec = importlib.util.spec_from_file_location("passes", HERE / "__init__.py")
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=r"import segc\.passes"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_each_pass_says_what_it_does_and_uses_known_facts(name: str) -> None:
    step = REGISTRY[name]()
    assert step.algebra and "->" in step.algebra
    assert step.requires | step.ensures | step.invalidates <= set(INVARIANTS)
    module = importlib.import_module(type(step).__module__)
    assert module.__doc__ and "Must not fire" in module.__doc__


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_each_pass_has_a_test_file(name: str) -> None:
    *folders, module = REGISTRY[name].__module__.split(".")[2:]
    assert Path(__file__).parent.joinpath(*folders, f"test_{module}.py").exists()


DIALECT = HEAD + "g (float[N,1,H,W] x) => (float[N,1,2,2] y) { y = segc.AdaptiveAvgPool2d <output_size = [2, 2]> (x) }"
STANDARD = HEAD + "g (float[1,1,2,2] x) => (float[1,1,2,2] y) { y = Relu (x) }"
EINSUM = HEAD + 'g (float[2,3] x) => (float[3,2] y) { y = Einsum <equation = "ij->ji"> (x) }'
MASK = (
    HEAD
    + """g (float[1,2,3,3] x) => (uint8[1,3,3] mask)
    { i = ArgMax <axis = 1, keepdims = 0> (x)  mask = Cast <to = 2> (i) }"""
)


@pytest.mark.parametrize(
    ("fact", "holds", "breaks", "why"),
    [
        ("static shapes", STANDARD, DIALECT, "'x' has shape ['N', 1, 'H', 'W']"),
        ("no segc dialect", STANDARD, DIALECT, "is a segc.AdaptiveAvgPool2d"),
        ("no segc.AdaptiveAvgPool2d", STANDARD, DIALECT, "is a segc.AdaptiveAvgPool2d"),
        ("no Einsum", STANDARD, EINSUM, "is a Einsum"),
        ("mask output", MASK, STANDARD, "the output is called 'y'"),
    ],
)
def test_facts_name_what_breaks_them(fact: str, holds: str, breaks: str, why: str) -> None:
    assert INVARIANTS[fact](graph_of(holds)) is None
    assert why in str(INVARIANTS[fact](graph_of(breaks)))


def test_the_mask_fact_looks_at_type_rank_and_count() -> None:
    for text, why in [
        (MASK.replace("uint8[1,3,3] mask", "int8[1,3,3] mask").replace("to = 2", "to = 3"), "the output is int8"),
        (
            MASK.replace("keepdims = 0", "keepdims = 1").replace("uint8[1,3,3]", "uint8[1,1,3,3]"),
            "has shape [1, 1, 3, 3]",
        ),
        (MASK.replace("mask)", "mask, int64[1,3,3] i)"), "2 outputs"),
    ]:
        assert why in str(INVARIANTS["mask output"](graph_of(text)))
    assert INVARIANTS["no segc.ResizeArgMax"](graph_of(DIALECT)) is None
