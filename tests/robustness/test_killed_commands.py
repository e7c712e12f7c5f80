"""Commands that are killed or interrupted: what they leave, what they say, and that the next run puts things right."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import onnx
import pytest

from segc.bundle.store import read_bundle
from segc.support_matrix import page
from tests.helpers.calls import python, segc
from tests.helpers.killed_files import SIGNALS, WIDE, factor, fresh, hidden
from tests.helpers.kills import Worker, each_point
from tests.helpers.labelled_images import labelled
from tests.helpers.npm import copied
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.tiny_models import onnx_file, source

OLD, NEW, NOTHING = "old", "new", "nothing"
CLI = "segc.cli:main"
PHOTOS = 12  # more than are worked on at once, which an interrupt lets end


@dataclass(frozen=True)
class Command:
    """words: the command, run in a folder that `prepare` fills. state: what lies there, whole or an assertion fails.

    states: those that a kill may leave. function: what is called with the words. code: of the command that ends.
    """

    words: list[str]
    prepare: Callable[[Path], None]
    state: Callable[[Path], str]
    states: set[str] = field(default_factory=lambda: {OLD, NEW})
    function: str = CLI
    code: int = 0


def conv_and_bundle(folder: Path) -> None:
    onnx_file(folder)
    assert segc("compile", folder / "conv.onnx", "-o", folder / "b").code == 0


def wide_model(folder: Path) -> None:
    """Weights beside the file, and a Mul that folds into them."""
    text = WIDE.replace("WEIGHTS", ", ".join(f"{i % 17 - 8}" for i in range(1200)))
    text = text.replace("> {", ", float two = {2}> { v = Mul(w, two) ").replace("(x, w)", "(x, v)")
    onnx_file(folder, text, name="s.onnx")
    done = segc("opt", folder / "s.onnx", "--pass", "remove-identities", "--embed", "0", "-o", folder / "m.onnx")
    assert done.code == 0, done.err
    (folder / "s.onnx").unlink()


def wide_state(folder: Path) -> str:
    assert factor(folder) == 2, "the numbers stay whatever happens"
    return OLD if len(onnx.load(folder / "m.onnx", load_external_data=False).graph.node) == 2 else NEW


def compiled_state(folder: Path) -> str:
    return OLD if read_bundle(folder / "b").output.kind == "logits" else NEW


def photos_and_bundle(folder: Path) -> None:
    bundle(folder / "b")
    (folder / "in").mkdir()
    for number in range(PHOTOS):
        cv2.imwrite(str(folder / "in" / f"{number}.png"), photograph(8, 12))


def masks(folder: Path) -> str:
    """Every picture that is there can be read; those of the first image come first."""
    files = sorted((folder / "out").glob("*.png")) if (folder / "out").is_dir() else []
    pictures = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    assert all(picture is not None and picture.size for picture in pictures)
    return NEW if len(files) == 2 * PHOTOS else NOTHING if not files else OLD


def old_page(folder: Path) -> None:
    (folder / "page.json").write_text("{}")
    (folder / "page.md").write_text("old")


def pages(folder: Path) -> str:
    data, text = json.loads((folder / "page.json").read_text()), (folder / "page.md").read_text()
    if data:
        assert page.read(folder / "page.json")
    assert text == "old" or text.endswith("\n")
    return f"{NEW if data else OLD}, {OLD if text == 'old' else NEW}"


def scores_and_labels(folder: Path) -> None:
    bundle(folder / "b")
    labelled(folder)
    (folder / "scores").mkdir()
    (folder / "scores" / "val.json").write_text('{"images": 0}')


def scored(folder: Path) -> str:
    """The scores of all five images or the old ones; every picture can be read."""
    for file in (folder / "scores").glob("*.png"):
        assert cv2.imread(str(file)) is not None
    count = json.loads((folder / "scores" / "val.json").read_text())["images"]
    assert count in (0, 5), "finished images count once, whatever happens"
    return NEW if count else OLD


def package_and_bundle(folder: Path) -> None:
    """An old package, whose page is of another bundle."""
    copied(folder / "ort")
    for name in ("old", "b"):
        bundle(folder / name, source__name=name)
    words = ["--for", "web", "-o", folder / "page", "--onnxruntime-web", folder / "ort"]
    assert segc("package", folder / "old", *words).code == 0


def packaged(folder: Path) -> str:
    listed = json.loads((folder / "page" / "segc-package.json").read_text())
    assert all((folder / "page" / name).is_file() for name in listed["files"])
    name = json.loads((folder / "page" / "segc.json").read_text())["source"]["name"]
    assert name == listed["bundle"]["name"]
    return OLD if name == "old" else NEW


MATRIX = ["matrix", "--families", "fcn", "--targets", "onnxruntime", "--state", "state", "-o", "page.md"]
COMMANDS = {
    "compile": Command(
        ["compile", "conv.onnx", "-o", "b", "--force", "--output", "mask"], conv_and_bundle, compiled_state
    ),
    "opt": Command(["opt", "m.onnx", "-o", "m.onnx", "--force", "--embed", "0"], wide_model, wide_state),
    "run": Command(["run", "b", "in", "-o", "out"], photos_and_bundle, masks, {NOTHING, OLD, NEW}),
    "val": Command(
        ["val", "b", "--images", "images", "--labels", "labels", "--state", "state", "-o", "scores", "--worst", "2"],
        scores_and_labels,
        scored,
    ),
    "package": Command(
        ["package", "b", "--for", "web", "-o", "page", "--force", "--onnxruntime-web", "ort"],
        package_and_bundle,
        packaged,
    ),
    "matrix": Command(
        MATRIX, old_page, pages, {"old, old", "new, old", "new, new"}, "tests.helpers.killed_work:matrix", 9
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            COMMANDS[name].prepare(made[name])
        return made[name]

    return folder


def kill_at(worker: Worker, name: str, prepared: Path, folder: Path, at: int, number: signal.Signals) -> str:
    """Kill the command there, look at what it left, run it again; returns the state between."""
    command = COMMANDS[name]
    done = worker.run(command.function, command.words, folder=fresh(prepared, folder), at=at, number=number)
    assert done.code == (-9 if number == signal.SIGKILL else 130), (done.code, done.err)
    assert "Traceback" not in done.err and "bug in segc" not in done.err
    found = command.state(folder)
    assert found in command.states
    if number != signal.SIGKILL:
        assert not hidden(folder) and not any(hidden(f) for f in folder.iterdir() if f.is_dir())
        published = found not in (OLD, NOTHING, "old, old")
        assert ("nothing was published" in done.err) == (not published) or found == OLD, done.err
        assert ("already published" in done.err) == published or found == OLD, done.err
    again = worker.run(command.function, command.words, folder=folder)
    assert again.code == command.code, again.err
    assert command.state(folder) in (NEW, "new, new")
    assert not hidden(folder) and not any(hidden(f) for f in folder.iterdir() if f.is_dir())
    return found


def telling(points: tuple[str, ...]) -> list[int]:
    """The first child, the point before the last change of names, and that after it."""
    last = max(each_point(points, "after exchange", "after replace", "after rename"))
    return sorted({next(each_point(points, "after child"), 0), last - 1, last})


@pytest.mark.parametrize("number", SIGNALS[::2])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_leaves_the_old_or_the_new(
    worker: Worker, prepared: Callable[[str], Path], tmp_path: Path, name: str, number: signal.Signals
) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    whole = worker.run(command.function, command.words, folder=fresh(prepared(name), folder))
    assert whole.code == command.code, whole.err
    seen = {kill_at(worker, name, prepared(name), folder, at, number) for at in telling(whole.points)}
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_at_any_point_leaves_the_old_or_the_new(
    worker: Worker, prepared: Callable[[str], Path], tmp_path: Path, name: str, number: signal.Signals
) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    whole = worker.run(command.function, command.words, folder=fresh(prepared(name), folder))
    seen = {kill_at(worker, name, prepared(name), folder, at, number) for at in each_point(whole.points)}
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="TensorRT for RTX is built on Linux")
def test_a_build_that_is_killed_at_any_point_leaves_the_bundle(worker: Worker, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    old, folder = tmp_path / "old", tmp_path / "w"
    old.mkdir()
    words = ["compile", str(onnx_file(old)), "--target", "tensorrt", "--defer", "-o", str(old / "b")]
    assert segc(*words).code == 0
    points = worker.run(CLI, ["build", "b"], folder=fresh(old, folder)).points
    seen = set()
    for at in each_point(points):
        assert worker.run(CLI, ["build", "b"], folder=fresh(old, folder), at=at).code == -9
        read_bundle(folder / "b")
        seen.add((folder / "b" / "model.engine").exists())
        assert worker.run(CLI, ["build", "b"], folder=folder).code == 0
        assert not hidden(folder)
    assert seen == {False, True}


def test_a_state_of_the_matrix_survives_a_line_that_was_not_finished(worker: Worker, tmp_path: Path) -> None:
    function = "tests.helpers.killed_work:matrix"
    old_page(tmp_path)
    assert worker.run(function, MATRIX, folder=tmp_path).code == 9
    (line,) = (tmp_path / "state").read_text().splitlines()
    (tmp_path / "state").write_text(line[:40])
    for _ in range(2):
        assert worker.run(function, MATRIX, folder=tmp_path).code == 9
        assert (tmp_path / "state").read_text().splitlines() == [line[:40], line], "added once, then found"


@pytest.mark.parametrize("way", ["finalizer", "swallowed", "other error"])
def test_an_interrupt_that_python_or_a_library_loses_ends_the_compile(worker: Worker, tmp_path: Path, way: str) -> None:
    words = ["compile", str(source(tmp_path)), "-o", "b", "--no-verify"]
    done = worker.run("tests.helpers.killed_work:lost_interrupt", words, way, folder=tmp_path)
    assert done.code == 130, done.err
    assert done.err.splitlines()[-1] == "segc: interrupted; nothing was published"
    assert "bug in segc" not in done.err
    assert not (tmp_path / "b").exists() and not hidden(tmp_path)


def test_an_interrupt_after_the_bundle_is_in_place_says_so(
    worker: Worker, prepared: Callable[[str], Path], tmp_path: Path
) -> None:
    command, folder = COMMANDS["compile"], tmp_path / "w"
    points = worker.run(command.function, command.words, folder=fresh(prepared("compile"), folder)).points
    at = next(each_point(points, "after exchange", "after rename"))
    fresh(prepared("compile"), folder)
    done = worker.run(command.function, command.words, folder=folder, at=at, number=signal.SIGINT)
    assert done.code == 130 and compiled_state(folder) == NEW
    assert done.err.splitlines()[-1] == f"segc: interrupted; {folder.resolve() / 'b'} was already published"
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


IMPORTING = """
import signal, sys
from segc.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
def at(event, arguments, name=sys.argv.pop(1)):
    if event == "import" and arguments[0] == name:
        sys.argv[0] = "reached"
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(at)
code = main(sys.argv[1:])
assert sys.argv[0] == "reached"
sys.exit(code)
"""


@pytest.mark.parametrize("module", ["segc.commands.compile", "torch", "torch._C"])
def test_an_interrupt_while_a_module_is_imported_ends_the_command(tmp_path: Path, module: str) -> None:
    done = python(IMPORTING, module, "compile", source(tmp_path), "-o", tmp_path / "b")
    assert done.code == 130, done.err
    assert done.err.splitlines()[-1] == "segc: interrupted; nothing was published"
    assert not (tmp_path / "b").exists() and not hidden(tmp_path)
