"""The guard around runtimes: their exceptions become CompileErrors, ours and MemoryError stay what they are."""

from __future__ import annotations

import pytest

from segc.errors import Code, CompileError, ShapeError
from segc.runtime.guard import runtime_errors


def test_a_runtimes_exception_becomes_a_compile_error_that_keeps_its_text() -> None:
    with (
        pytest.raises(CompileError, match="the engine fails") as error,
        runtime_errors("the engine fails", Code.ENGINE_RUN, where="x"),
    ):
        raise KeyError("plane")
    assert "'plane'" in str(error.value) and error.value.code is Code.ENGINE_RUN
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [ShapeError("ours"), MemoryError(), KeyboardInterrupt()])
def test_what_is_no_runtimes_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, runtime_errors("the engine fails", Code.ENGINE_RUN):
        raise error
    assert raised.value is error


def test_an_interrupt_within_an_import_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt), runtime_errors("it cannot load", Code.ENGINE_RUN):
        raise ImportError("initialization failed") from KeyboardInterrupt()
