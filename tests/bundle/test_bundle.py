"""Bundles are written whole or not at all, and read only as they were written."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from segc.bundle import store as bundles
from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import Manifest, is_inside, self_digest
from segc.bundle.store import read_bundle, unlisted, write_bundle
from segc.errors import BundleError, FileError
from segc.files import claims, folders
from tests.helpers.tiny_bundles import REPORT, bundle, content, manifest


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def resign(path: Path, change: Any) -> None:
    """Edit segc.json and sign it again, as a writer with other ideas would have."""
    value = json.loads((path / "segc.json").read_bytes())
    del value["sha256"]
    change(value)
    (path / "segc.json").write_bytes(canonical({**value, "sha256": self_digest(value)}))


# --- the manifest


def test_a_manifest_survives_json() -> None:
    made = manifest()
    assert Manifest.from_json(json.loads(canonical(made.to_json()))) == made
    assert made.preprocessing.mean == (0.0, 0.0, 0.0) and made.input.dynamic is not None
    assert made.input.dynamic.height == (1, None)


def test_tuples_and_whole_numbers_give_the_same_manifest_as_lists_and_floats() -> None:
    assert manifest(preprocessing__mean=(0, 0, 0), model__test_cfg={"crop": (1, 2)}) == manifest(
        model__test_cfg={"crop": [1, 2]}
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", 32),
        ("precision", None),
        ("source", []),
        ("source__kind", None),
        ("source__checkpoint", {"name": "a.pth"}),
        ("source__checkpoint", {"name": "a.pth", "sha256": "0", "size": 3}),
        ("target__options", []),
        ("input__dtype", "float16"),
        ("input__layout", "NHWC"),
        ("input__shape", [1, 3, 32]),
        ("input__shape", [1, None, 32, 32]),
        ("input__shape", [1, 3, 0, 32]),
        ("input__shape", [1, 3, True, 32]),
        ("input__shape", [1, 3, 32.0, 32]),
        ("input__dynamic", None),
        ("input__dynamic__height", [0, None]),
        ("input__dynamic__width", [64, 32]),
        ("input__dynamic__batch", [1]),
        ("input__dynamic__divisor", 0),
        ("output__kind", "labels"),
        ("output__dtype", "uint8"),
        ("output__channels", 0),
        ("output__threshold", "high"),
        ("preprocessing__channel_order", "GBR"),
        ("preprocessing__mean", [0.0]),
        ("preprocessing__mean", ["0", 0, 0]),
        ("preprocessing__std", [1.0, 0.0, 1.0]),
        ("preprocessing__resize", {"scale": [0, 5], "keep_ratio": True}),
        ("preprocessing__resize", {"scale": [5, 5], "keep_ratio": 1}),
        ("preprocessing__pad__divisor", 0),
        ("preprocessing__pad__size", [0, 1]),
        ("inference__mode", "tiles"),
        ("classes", ["red", "green"]),
        ("classes", ["red", "green", 3]),
        ("palette", [[255, 0, 0]] * 2),
        ("palette", [[255, 0, 256]] * 3),
        ("palette", [[255, 0]] * 3),
        ("passes", [{"name": "simplify"}]),
        ("passes", {}),
        ("files", {"model.onnx": {"sha256": "x", "bytes": 1}}),
        ("files", {"../model.onnx": {"sha256": "0" * 64, "bytes": 1}}),
    ],
)
def test_every_field_is_checked_and_named(field: str, value: object) -> None:
    with pytest.raises(BundleError) as caught:
        manifest(**{field: value})
    assert field.split("__")[0] in caught.value.what


def test_fields_that_contradict_each_other_are_refused() -> None:
    slide = {"mode": "slide", "crop": [32, 32], "stride": [16, 16], "align_corners": False}
    manifest(inference=slide, input__shape=[1, 3, 32, 32])
    for changes, named in [
        ({"inference": slide, "input__shape": [1, 3, 64, 32]}, "input.shape[2]"),
        ({"inference": slide, "output": content()["output"] | {"kind": "mask", "dtype": "uint8"}}, "output.kind"),
        ({"inference": {**slide, "crop": None}}, "inference.crop"),
        ({"inference": {**slide, "stride": [33, 16]}}, "inference.stride"),  # would leave pixels uncovered
        ({"preprocessing__pad": {"size": [8, 8], "divisor": 8, "value": 0}}, "preprocessing.pad"),
        ({"output__channels": 1, "classes": ["road"], "palette": [[0, 0, 0]]}, "output.threshold"),
        ({"output": {**content()["output"], "kind": "mask", "dtype": "uint16"}}, "output.dtype"),
    ]:
        with pytest.raises(BundleError) as caught:
            manifest(**changes)
        assert named in caught.value.what


def test_a_missing_and_an_unknown_field_are_named() -> None:
    less, more = content(), content(extra=1)
    del less["input"]["layout"]
    for given, named in [(less, "input.layout"), (more, "extra")]:
        with pytest.raises(BundleError, match=f"cannot be used: {named}"):
            Manifest.from_content(given)


def test_what_json_cannot_hold_is_refused() -> None:
    for value in (float("nan"), float("inf"), object(), "\ud800"):
        with pytest.raises(BundleError, match="cannot be"):
            manifest(model={"value": value})


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../b", "a//b", "./a", ".", "", "a\\b", "C:a", "a\0", "SEGC.json"]
)
def test_names_that_could_leave_the_bundle_are_not_inside(name: str) -> None:
    assert not is_inside(name)
    assert is_inside("weights/model..bin")


# --- writing


def test_a_bundle_holds_its_files_and_reads_back(tmp_path: Path) -> None:
    path = bundle(tmp_path / "deep" / "er" / "tiny")
    read = read_bundle(path)
    assert sorted(read.files) == ["model.onnx", "report.json"]
    assert read.files["model.onnx"].bytes == (path / "model.onnx").stat().st_size
    assert read.classes == ("red", "green", "blue")
    assert [p.name for p in path.parent.iterdir()] == ["tiny"]


def test_equal_inputs_give_equal_bytes_but_for_the_timings(tmp_path: Path) -> None:
    paths = [bundle(tmp_path / name) for name in "ab"]
    assert tree(paths[0]) == tree(paths[1])
    with write_bundle(tmp_path / "c") as staging:
        (staging.directory / "model.onnx").write_bytes((paths[0] / "model.onnx").read_bytes())
        staging.manifest, staging.report = manifest(), {**REPORT, "timings": {"seconds": {"export": 1.5}}}
    assert (tmp_path / "c" / "segc.json").read_bytes() == (paths[0] / "segc.json").read_bytes()
    assert (tmp_path / "c" / "report.json").read_bytes() != (paths[0] / "report.json").read_bytes()


@pytest.mark.parametrize("error", [ValueError("pass failed"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("existing", [False, True])
def test_whatever_ends_the_block_leaves_no_trace(tmp_path: Path, error: BaseException, existing: bool) -> None:
    if existing:
        bundle(tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(type(error)), write_bundle(tmp_path / "out", force=True) as staging:
        (staging.directory / "model.onnx").write_bytes(b"half")
        raise error
    assert tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"] * existing


def test_force_replaces_a_bundle_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    (path / "notes").mkdir()  # an empty folder is nothing to lose
    bundle(path, force=True, precision="fp16")
    assert read_bundle(path).precision == "fp16"
    assert sorted(p.name for p in path.iterdir()) == ["model.onnx", "report.json", "segc.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def no_exchange(_a: Path, _b: Path) -> bool:
    """As systems without a call for it answer."""
    return False


@pytest.mark.parametrize("stop", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()])
def test_a_replacement_that_fails_midway_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    path = bundle(tmp_path / "out")
    before, rename = tree(path), Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == path and not self.name.endswith(".old"):
            assert not path.exists()  # the old one stands aside at this moment
            raise stop
        return rename(self, target)

    monkeypatch.setattr(folders, "exchange", no_exchange)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((FileError, KeyboardInterrupt)):
        bundle(path, force=True, precision="fp16")
    assert tree(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("replaces", [True, False])
def test_a_folder_that_cannot_be_synced_undoes_the_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, replaces: bool
) -> None:
    path, sync = tmp_path / "out", claims.sync
    before = tree(bundle(path)) if replaces else {}

    def fail(where: Path) -> None:
        if where == tmp_path:
            assert read_bundle(path).precision == "fp16", "it comes after the renames"
            raise OSError(errno.EIO, "input/output error")
        sync(where)

    monkeypatch.setattr(claims, "sync", fail)
    if not exchanges:
        monkeypatch.setattr(folders, "exchange", no_exchange)
    with pytest.raises(FileError, match="cannot be written"):
        bundle(path, force=True, precision="fp16")
    assert [p.name for p in tmp_path.iterdir()] == (["out"] if replaces else [])
    assert not replaces or tree(path) == before


@pytest.mark.parametrize("reads", [True, False])
def test_what_a_killed_replacement_took_away_is_put_back(tmp_path: Path, reads: bool) -> None:
    bundle(tmp_path / "out").rename(tmp_path / ".out.segc-0123456789abcdef.old")
    bundle(tmp_path / ".out.segc-0123456789abcdef", precision="fp16")  # complete, but never published
    if reads:
        assert read_bundle(tmp_path / "out").precision == "fp32"
    with pytest.raises(FileError, match="exists already"):
        bundle(tmp_path / "out")
    assert read_bundle(tmp_path / "out").precision == "fp32"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_running_process_is_making_is_left_alone(tmp_path: Path) -> None:
    bundle(tmp_path / "out")
    with write_bundle(tmp_path / "out", force=True) as staging:
        staging.manifest = manifest()
        (staging.directory / "model.onnx").write_bytes(b"slow")
        bundle(tmp_path / "out", force=True, precision="fp16")
        assert (staging.directory / "model.onnx").is_file()
    assert read_bundle(tmp_path / "out").precision == "fp32"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_that_a_library_swallowed_still_ends_the_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_bundle(tmp_path / "out") as staging:
        staging.manifest = manifest()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_that_became_another_error_is_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_bundle(tmp_path / "out"):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error
    assert not list(tmp_path.iterdir())


def test_existing_things_are_kept(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    folder, file, mixed, foreign = (tmp_path / name for name in ("photos", "file", "mixed", "foreign"))
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"precious")
    file.write_bytes(b"precious")
    bundle(mixed)
    (mixed / "thesis.tex").write_bytes(b"precious")
    foreign.mkdir()
    (foreign / "segc.json").write_bytes(b'{"format": 1}')
    before = tree(tmp_path)
    for destination, force, why in [
        (path, False, "exists already"),
        (folder, False, "exists already"),
        (folder, True, "not a bundle"),
        (mixed, True, "thesis.tex"),
        (foreign, True, "not a bundle"),
        (file, True, "is a file"),
        (file / "below", True, "cannot be written"),
    ]:
        with pytest.raises(FileError) as caught:
            bundle(destination, force=force)
        assert why in str(caught.value)
    assert tree(tmp_path) == before


def test_a_destination_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="exists already"), write_bundle(tmp_path / "out") as staging:
        staging.manifest = manifest()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_bytes(b"1")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["out", "out/precious"]


def test_an_empty_folder_and_a_link_to_one_are_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    bundle(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and read_bundle(tmp_path / "real").classes
    bundle(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink() and read_bundle(tmp_path / "real").classes


def test_a_full_disk_while_writing_the_engine_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written") as caught, write_bundle(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device", "model.onnx")
    assert "free some space" in str(caught.value) and caught.value.exit_code == 8
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "you can write to")])
def test_a_disk_that_fails_while_the_files_are_synced_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError) as caught:
        bundle(tmp_path / "out")
    assert advice in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_write_permission_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(self: Path, *_args: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(FileError, match="cannot be written"):
        bundle(tmp_path / "out")


def test_other_errors_of_the_block_are_passed_on_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_bundle(tmp_path / "out"):
        raise FileNotFoundError("a config")


def test_a_bundle_without_manifest_or_with_a_wrong_one_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no manifest"), write_bundle(tmp_path / "out"):
        pass
    with pytest.raises(BundleError, match="precision"), write_bundle(tmp_path / "out") as staging:
        staging.manifest = manifest()
        object.__setattr__(staging.manifest, "precision", 32)
    assert not list(tmp_path.iterdir())


def test_all_files_are_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = claims.sync
    monkeypatch.setattr(claims, "sync", lambda path: (synced.append(path.name), sync(path)))
    bundle(tmp_path / "out")
    assert synced[:3] == ["model.onnx", "report.json", "segc.json"]
    assert synced[4:] == [tmp_path.name]


# --- reading


@pytest.mark.parametrize("name", ["segc.json", "report.json", "model.onnx"])
def test_a_flipped_byte_anywhere_is_noticed(tmp_path: Path, name: str) -> None:
    path = bundle(tmp_path / "out")
    good = (path / name).read_bytes()
    end = len(good) if name != "report.json" else good.index(b'"timings"') + 9  # what follows may differ
    for at in range(0, end, max(1, end // 97)):
        (path / name).write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(BundleError):
            read_bundle(path)
    (path / name).write_bytes(good)
    read_bundle(path)


@pytest.mark.parametrize("name", ["segc.json", "report.json", "model.onnx"])
@pytest.mark.parametrize("how", ["missing", "short", "long", "empty", "folder"])
def test_missing_and_truncated_files_are_named(tmp_path: Path, name: str, how: str) -> None:
    path = bundle(tmp_path / "out")
    file = path / name
    good = file.read_bytes()
    if how in ("missing", "folder"):
        file.unlink()
        if how == "folder":
            file.mkdir()
    else:
        file.write_bytes({"short": good[:-1], "long": good + b"\n", "empty": b""}[how])
    with pytest.raises((BundleError, FileError)) as caught:
        read_bundle(path)
    assert name in str(caught.value)
    assert caught.value.details["because"]


def test_other_timings_do_not_damage_a_bundle(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    (path / "report.json").write_bytes(canonical({**REPORT, "timings": {"seconds": {"load": 9}}}))
    read_bundle(path)


def test_other_formats_are_refused_by_number(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    for number, words in [(2, "format 2; segc .* reads format 1"), (99, "format 99"), (0, "format"), ("1", "format")]:
        resign(path, lambda value, number=number: value.update(format=number, novelty=True))
        with pytest.raises(BundleError, match=words):
            read_bundle(path)


def test_an_edited_manifest_is_refused_even_when_it_is_canonical(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    value = json.loads((path / "segc.json").read_bytes())
    (path / "segc.json").write_bytes(canonical({**value, "precision": "fp16"}))
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": NaN}']
)
def test_manifests_that_are_something_else_are_refused(tmp_path: Path, text: bytes) -> None:
    path = bundle(tmp_path / "out")
    (path / "segc.json").write_bytes(text)
    with pytest.raises(BundleError):
        read_bundle(path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_listed_file_outside_of_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    path = bundle(tmp_path / "out")
    (tmp_path / "secret").write_bytes(b"")
    record = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bytes": 0}
    resign(path, lambda value: value["files"].update({name: record}))
    with pytest.raises(BundleError, match="files"):
        read_bundle(path)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    (path / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (path / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="lies outside"):
        read_bundle(path)


def test_files_that_are_not_listed_are_noted_only(tmp_path: Path) -> None:
    path = bundle(tmp_path / "out")
    (path / "readme.txt").write_bytes(b"mine")
    assert unlisted(path, read_bundle(path)) == ["readme.txt"]


def test_paths_that_hold_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    for name, words in [("none", "no bundle at"), ("file", "is a file"), ("folder", "no segc.json")]:
        with pytest.raises(BundleError) as caught:
            read_bundle(tmp_path / name)
        assert words in str(caught.value)


def test_a_file_the_system_refuses_is_a_file_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path / "out")

    def refuse(_path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(bundles, "sha256_of_file", refuse)
    with pytest.raises(FileError, match=r"model\.onnx"):
        read_bundle(path)


def test_the_content_given_is_not_changed() -> None:
    given = content()
    before = copy.deepcopy(given)
    Manifest.from_content(given)
    assert given == before
