"""`segc.sign`: sign a bundle, so that others can check who made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segc.bundle.signature import SIGNATURE, sign_manifest
from segc.bundle.store import read_signed
from segc.files.whole import write_whole
from segc.suggestions import checked_keywords


@dataclass(frozen=True)
class Signed:
    """A signed bundle, and the file in it that has the signature."""

    bundle: Path
    signature: Path


@checked_keywords
def sign(bundle: str | Path, *, secret_key: str | Path, password: str | None = None) -> Signed:
    """Sign a bundle with a secret key of minisign: writes segc.json.minisig into it.

    password: of an encrypted key. An earlier signature is replaced. `segc.load(bundle, public_key=...)` checks it.
    Raises BundleError (the bundle is damaged), FileError (the key cannot be used), MissingPackageError.
    """
    root = Path(bundle)
    content, _ = read_signed(root)
    path = root / SIGNATURE
    write_whole(path, sign_manifest(content, Path(secret_key), password))
    return Signed(root, path)
