"""Signatures of bundles, in the format of minisign (Ed25519).

A signature covers segc.json. Its digests cover every other file, so a bundle with a valid signature is complete and is
what the holder of the secret key signed. It lies in the bundle as segc.json.minisig: the tool `minisign` checks it too.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from segc.bundle.manifest import NAME
from segc.errors import BundleError, Code, FileError, MissingPackageError
from segc.files.regular import read_regular
from segc.packages import install

SIGNATURE = f"{NAME}.minisig"
_LARGEST = 1 << 16  # bytes of a key or signature; real ones have about 300


def sign_manifest(content: bytes, secret_key: Path, password: str | None) -> bytes:
    """The signature file for the manifest `content`.

    password: of an encrypted secret key. Raises FileError for a key that cannot be used, MissingPackageError.
    """
    minisign = _minisign()
    try:
        key = minisign.SecretKey.from_bytes(_read(secret_key))
        if key.is_encrypted():
            key.decrypt(password or "")
        signed = key.sign(content, untrusted_comment="signature of a segc bundle", trusted_comment=f"file:{NAME}")
    except minisign.Error as error:
        because = [str(error)] if password is not None else [str(error), "it is encrypted, and no password was given"]
        raise FileError(
            f"'{secret_key}' does not sign", code=Code.SIGNING_KEY, because=because,
            so="minisign -G makes a pair of keys",
        ) from error  # fmt: skip
    return bytes(signed)


def require_signed(content: bytes, bundle: Path, public_key: str | Path) -> None:
    """Check the signature of the manifest `content` of `bundle`.

    public_key: a key file, or the key itself in base64. Raises BundleError if the bundle is not signed with this key,
    FileError for a key that cannot be used, MissingPackageError.
    """
    minisign = _minisign()
    key = _public_key(minisign, public_key)
    try:
        signature = minisign.Signature.from_bytes(_read(bundle / SIGNATURE))
        key.verify(content, signature)
    except FileError as error:
        raise _not_signed(bundle, f"it has no readable {SIGNATURE}") from error
    except minisign.Error as error:
        raise _not_signed(bundle, str(error)) from error


def _public_key(minisign: Any, given: str | Path) -> Any:
    try:
        if os.path.exists(given):  # noqa: PTH110 - a key may be too long for a path
            return minisign.PublicKey.from_bytes(_read(Path(given)))
        return minisign.PublicKey.from_base64(str(given))
    except (minisign.Error, ValueError) as error:
        raise FileError(
            f"'{given}' is not a public key", code=Code.SIGNING_KEY, because=str(error),
            so="give the file that minisign -G wrote, or the line of base64 in it",
        ) from error  # fmt: skip


def _not_signed(bundle: Path, because: str) -> BundleError:
    return BundleError(
        f"{bundle} is not signed with this key", code=Code.SIGNATURE, because=because,
        so="do not use it; ask whoever gave it to you for a signed copy",
    )  # fmt: skip


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _LARGEST)
    except OSError as error:
        raise FileError(f"{path} cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)) from error


def _minisign() -> Any:
    try:
        return import_module("minisign")
    except ImportError as error:
        raise MissingPackageError(
            "signatures need the package 'py-minisign'", code=Code.OPTIONAL_PACKAGE, because=str(error),
            so=install("sign"),
        ) from error  # fmt: skip
