"""The command line and the Python functions have the same options, and both suggest what was meant."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest

import segc
from segc.cli import COMMANDS, _commands, arguments, parser
from segc.compilation.command_line import LEFT_OUT
from segc.compilation.request import Request
from segc.errors import SegcError, UsageError
from segc.frontend.given import Given
from segc.targets.flags import FLAGS
from tests.helpers.calls import python
from tests.helpers.calls import segc as command_line

FUNCTIONS = {name: name for name in COMMANDS} | {"opt": "optimize"}
LISTINGS = ("targets", "passes", "explain")  # these print what segc.targets, segc.passes and segc.errors hold
OF_TARGETS = {"set": "options"} | {option.name: "options" for _, option in FLAGS}
# what the command line spells in another way than the function
RENAMED: dict[str, dict[str, str]] = {
    "compile": {
        "no_verify": "verify", "no_cache": "cache", "no_hybrid": "hybrid", "min_segment": "partitioning",
        "skip_transform": "skip_transforms", **OF_TARGETS,
    },
    "bisect": {
        "no_hybrid": "hybrid", "min_segment": "partitioning", "skip_transform": "skip_transforms", **OF_TARGETS,
    },
    "build": OF_TARGETS,
    "run": {"no_overlay": "overlay", "signature": "public_key"},
    "serve": {"signature": "public_key"},
    "kit": {"skip_transform": "skip_transforms"},
    "verify": {"signature": "public_key", "skip_transform": "skip_transforms"},
    "val": {"skip_transform": "skip_transforms"},
}  # fmt: skip
PRINTING = {"json", "help", "verbose"}
ONLY_PRINTING = {"opt": {"skips"}, "diff": {"all"}}
ONLY_PYTHON = {"progress", "within", "done", "password"}  # a password is asked for, or in the environment


def options(command: str) -> dict[str, argparse.Action]:
    found = {action.dest: action for action in _commands(parser())[command]._actions}
    return {name: action for name, action in found.items() if name not in PRINTING | ONLY_PRINTING.get(command, set())}


def function(command: str) -> Any:
    return getattr(segc, FUNCTIONS[command])


def parameters_of(command: str) -> dict[str, inspect.Parameter]:
    """The parameters of a command's function; for one that takes a Request, the options of compile that it heeds."""
    found = dict(inspect.signature(function(command)).parameters)
    if found.pop("request", None) is not None:
        of_compile = dict(inspect.signature(segc.compile).parameters)
        found = {name: each for name, each in of_compile.items() if name not in LEFT_OUT} | found
    return found


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in LISTINGS])
def test_command_and_function_have_the_same_options(command: str) -> None:
    renamed = RENAMED.get(command, {})
    typed = {renamed.get(name, name) for name in options(command)}
    assert typed == set(parameters_of(command)) - ONLY_PYTHON


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in LISTINGS])
def test_plain_defaults_agree(command: str) -> None:
    renamed = RENAMED.get(command, {})
    parameters = parameters_of(command)
    for name, action in options(command).items():
        if name in renamed or not action.option_strings or action.default is None:
            continue
        want = parameters[name].default
        if isinstance(want, str | int | float):
            assert type(want)(action.default) == want, name


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in LISTINGS])
def test_functions_are_typed_keyword_only_and_documented(command: str) -> None:
    made = function(command)
    hints = typing.get_type_hints(made)
    parameters = inspect.signature(made).parameters.values()
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    assert {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} <= {
        "source", "bundle", "bundles", "images", "path", "passes", "request", "a", "b",
    }  # fmt: skip
    assert hints.keys() == {p.name for p in parameters} | {"return"}
    result = hints["return"]
    result = typing.get_args(result)[0] if typing.get_origin(result) is list else result
    assert dataclasses.is_dataclass(result)
    assert result.__doc__
    assert getattr(segc, result.__name__) is result  # results are exported


def test_flags_of_targets_reach_the_function_as_options() -> None:
    words = ["--flavor", "rtx", "--defer", "--device", "cuda", "--set", "winograd=off"]
    typed = arguments.options(parser().parse_args(["compile", "m.onnx", *words]))
    assert typed == {"flavor": "rtx", "defer": "yes", "device": "cuda", "winograd": "off"}
    assert arguments.options(parser().parse_args(["compile", "m.onnx"])) == {}
    with pytest.raises(UsageError, match="is not NAME=VALUE"):
        arguments.options(parser().parse_args(["build", "b", "--set", "winograd"]))
    assert "defer" not in options("build")  # it is what build finishes


def test_a_request_has_the_options_of_compile() -> None:
    parameters = set(inspect.signature(segc.compile).parameters) - ONLY_PYTHON - {"cache"}  # it is of no request
    given = {field.name for field in dataclasses.fields(Given)}
    assert given < parameters
    assert {field.name for field in dataclasses.fields(Request)} == parameters - given | {"given"}


def test_every_error_is_exported() -> None:
    classes = [c for c in vars(segc.errors).values() if isinstance(c, type) and issubclass(c, SegcError)]
    assert len(classes) > 5
    assert all(getattr(segc, c.__name__) is c and c.__name__ in segc.__all__ for c in classes)


def test_every_exported_name_is_there_and_listed() -> None:
    assert set(segc.__all__) <= set(dir(segc))
    assert all(getattr(segc, name) is not None for name in segc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        _ = segc.complie  # type: ignore[attr-defined]


def test_submodules_need_no_import_of_their_own() -> None:
    code = "import segc; print(segc.targets.names()[0], len(segc.passes.REGISTRY) > 50, segc.steps.Request.__name__)"
    assert python(code).out.split() == ["onnxruntime", "True", "Request"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: segc.compile("m.onnx", dynamc=True), "segc.compile has no option 'dynamc'.*did you mean dynamic"),  # type: ignore[call-arg]
        (lambda: segc.verify("b", image="i"), "did you mean images"),  # type: ignore[call-arg]
        (lambda: segc.load("b", thread=1), "segc.load has no option 'thread'.*did you mean threads"),  # type: ignore[call-arg]
        (lambda: segc.optimize("m.onnx", zzzz=1), "help.segc.optimize. describes them"),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_keyword_gets_a_suggestion(call: Any, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        call()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compile", "m.onnx", "--dynamc"], "did you mean --dynamic"),
        (["verify", "b", "--imgaes=x"], "did you mean --images"),
        (["bench", "b", "--zzzz"], "unrecognized arguments: --zzzz"),
    ],
)
def test_a_wrong_option_gets_a_suggestion_and_the_usage(words: list[str], said: str, tmp_path: Path) -> None:
    result = command_line(*words)
    assert result.code == 2
    assert said in result.err
    assert f"usage: segc {words[0]}" in result.err
