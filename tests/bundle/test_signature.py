"""Signatures of bundles: made by `segc sign`, and checked before anything of a bundle is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import segc
from segc.bundle.signature import SIGNATURE
from segc.bundle.store import unlisted
from segc.cli import main
from segc.cli.sign import PASSWORD
from segc.errors import BundleError, FileError
from tests.helpers.target_bundles import bundle as made_bundle

minisign = pytest.importorskip("minisign")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair of keys, an encrypted one of the same pair, and the public key of another pair."""
    folder = tmp_path_factory.mktemp("keys")
    pair, other = minisign.KeyPair.generate(), minisign.KeyPair.generate()
    (folder / "a.key").write_bytes(bytes(pair.secret_key))
    (folder / "a.pub").write_bytes(bytes(pair.public_key))
    (folder / "b.pub").write_bytes(bytes(other.public_key))
    locked = minisign.SecretKey.from_bytes(bytes(pair.secret_key))
    locked.encrypt("a password")
    (folder / "locked.key").write_bytes(bytes(locked))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_bundle("onnxruntime", "whole", tmp_path_factory.mktemp("plain"))


@pytest.fixture
def bundle(plain: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a bundle."""
    yield Path(shutil.copytree(plain, tmp_path / "bundle"))


def test_a_signed_bundle_loads(bundle: Path, keys: Path) -> None:
    assert segc.sign(bundle, secret_key=keys / "a.key").signature == bundle / SIGNATURE
    for key in (keys / "a.pub", (keys / "a.pub").read_text().splitlines()[1]):
        assert segc.load(bundle, public_key=key).manifest.target.name == "onnxruntime"
    assert segc.load(bundle).manifest == segc.load(bundle, public_key=keys / "a.pub").manifest
    assert unlisted(bundle, segc.load(bundle).manifest) == []


def test_an_encrypted_key_signs_with_its_password(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PASSWORD, "a password")
    assert main(["sign", str(bundle), "--secret-key", str(keys / "locked.key"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"signature": str(bundle / SIGNATURE)}
    assert segc.load(bundle, public_key=keys / "a.pub")
    for password in ("another", None):
        with pytest.raises(FileError, match="does not sign"):
            segc.sign(bundle, secret_key=keys / "locked.key", password=password)


def test_without_a_signature_it_is_refused(bundle: Path, keys: Path) -> None:
    with pytest.raises(BundleError, match="is not signed with this key") as error:
        segc.load(bundle, public_key=keys / "a.pub")
    assert f"no readable {SIGNATURE}" in str(error.value)


def test_another_key_is_refused(bundle: Path, keys: Path) -> None:
    segc.sign(bundle, secret_key=keys / "a.key")
    with pytest.raises(BundleError, match="is not signed with this key"):
        segc.load(bundle, public_key=keys / "b.pub")


def test_a_changed_manifest_is_refused_before_it_is_read(bundle: Path, keys: Path) -> None:
    segc.sign(bundle, secret_key=keys / "a.key")
    manifest = bundle / "segc.json"
    manifest.write_text(manifest.read_text().replace('"onnxruntime"', '"no-such-target"'))
    with pytest.raises(BundleError, match="is not signed with this key"):
        segc.load(bundle, public_key=keys / "a.pub")


def test_a_changed_engine_is_refused(bundle: Path, keys: Path) -> None:
    segc.sign(bundle, secret_key=keys / "a.key")
    engine = bundle / "model.onnx"
    engine.write_bytes(engine.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        segc.load(bundle, public_key=keys / "a.pub")


def test_a_damaged_bundle_is_not_signed(bundle: Path, keys: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        segc.sign(bundle, secret_key=keys / "a.key")
    assert not (bundle / SIGNATURE).exists()


@pytest.mark.parametrize("content", [b"", b"no key", b"untrusted comment: x\nRWQ!\n"])
def test_what_is_no_key_is_said(bundle: Path, keys: Path, tmp_path: Path, content: bytes) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    with pytest.raises(FileError, match="does not sign"):
        segc.sign(bundle, secret_key=key)
    for public in (key, "not base64", keys / "a.key"):
        with pytest.raises(FileError, match="is not a public key"):
            segc.load(bundle, public_key=public)
    with pytest.raises(FileError, match="cannot be read"):
        segc.sign(bundle, secret_key=tmp_path / "none")


@pytest.mark.parametrize("command", ["run", "verify"])
def test_commands_check_it(
    command: str, bundle: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"run": [str(tmp_path)], "verify": []}[command]
    (tmp_path / "a.png").write_bytes(b"")
    assert main([command, str(bundle), *arguments, "--signature", str(keys / "a.pub")]) == BundleError.exit_code
    assert "SEGC-B106" in capsys.readouterr().err


def test_a_signed_bundle_can_be_replaced(bundle: Path, plain: Path, keys: Path) -> None:
    from segc.bundle.store import read_bundle, write_bundle

    segc.sign(bundle, secret_key=keys / "a.key")
    manifest = read_bundle(plain)
    with write_bundle(bundle, force=True) as staging:
        for name in manifest.files:
            (staging.directory / name).parent.mkdir(exist_ok=True)
            shutil.copy(plain / name, staging.directory / name)
        staging.manifest = manifest
    assert not (bundle / SIGNATURE).exists()  # it was of the bundle before
