"""Damaged manifests and images end segc.hpp with an error of its own: no crash, no leak, no read out of bounds.

The program is built with the address and undefined-behaviour sanitizers, which end it at the first fault.
"""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segc.bundle import preprocessing as steps
from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import Manifest, self_digest
from segc.bundle.typed import encode
from tests.helpers import cpp, image_kinds, tiny_bundles
from tests.helpers.mutants import changed_json, damaged
from tests.helpers.preprocessing_cases import CHANGES, PLAIN

pytestmark = cpp.needs_compiler

FILES = image_kinds.files(tiny_bundles.photograph(19, 23))


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """damage.cpp with sanitizers; skips where the compiler has none."""
    out = tmp_path_factory.mktemp("damage") / "damage"
    flags = "-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"
    empty = out.with_suffix(".cpp")
    empty.write_text("int main() { return 0; }")
    probe = subprocess.run([str(cpp.CXX), *flags, str(empty), "-o", str(out)], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("the compiler has no sanitizers")
    return cpp.compiled(cpp.HERE / "damage.cpp", out, *flags)


def manifests() -> list[dict[str, Any]]:
    """Of every kind: whole, sliding, masks by the engine or by segc, images, one class, each step."""
    made = [tiny_bundles.content(preprocessing=encode(steps.Preprocessing(**{**vars(PLAIN), **c}))) for c in CHANGES]
    slide = {"mode": "slide", "crop": [16, 16], "stride": [10, 11], "align_corners": False}
    images = {"shape": [1, 3, 24, 40], "dtype": "uint8", "layout": "NHWC", "dynamic": None}
    made += [
        tiny_bundles.content(inference=slide), tiny_bundles.content(inference__direct=True),
        tiny_bundles.content(output__kind="mask", output__dtype="uint8"),
        tiny_bundles.content(output__kind="mask", output__dtype="uint8", output__decode={"resize": True}),
        tiny_bundles.content(output__kind="mask", output__dtype="uint8", output__beside={"resize": False}),
        tiny_bundles.content(output__channels=1, output__threshold=0.4, classes=["a"], palette=[[1, 2, 3]]),
        tiny_bundles.content(input={**tiny_bundles.CONTENT["input"], **images}, output__kind="mask",
                             output__dtype="uint8", preprocessing__resize={"scale": [40, 24], "keep_ratio": False}),
    ]  # fmt: skip
    return [Manifest.from_content(content).to_json() for content in made]


MANIFESTS = manifests()


def signed(value: Any) -> bytes:
    """A manifest with the digest that belongs to it, as far as it is one."""
    try:
        rest = {key: part for key, part in value.items() if key != "sha256"} if isinstance(value, dict) else value
        return canonical({**rest, "sha256": self_digest(rest)} if isinstance(value, dict) else value)
    except (ValueError, OverflowError):  # what JSON does not have
        return b"{}"


def repaired(content: bytes) -> bytes:
    """A PNG with the checksums that its chunks ought to have, as far as its lengths make sense."""
    made, at = bytearray(content), 8
    while at + 12 <= len(made):
        (length,) = struct.unpack_from(">I", made, at)
        if at + 12 + length > len(made):
            break
        struct.pack_into(">I", made, at + 8 + length, zlib.crc32(bytes(made[at + 4 : at + 8 + length])))
        at += 12 + length
    return bytes(made)


def mutant(rng: random.Random) -> tuple[str, bytes]:
    """The ending of a file's name, and its content."""
    kind = rng.randrange(4)
    if kind == 0:
        return ".json", damaged(rng, signed(rng.choice(MANIFESTS)))
    if kind == 1:
        return ".json", signed(changed_json(rng, rng.choice(MANIFESTS)))
    content = FILES[rng.choice(list(FILES))]
    changed = damaged(rng, content)
    return ".image", repaired(changed) if kind == 2 and content.startswith(b"\x89PNG") else changed


def outcomes(checker: Path, folder: Path, files: list[tuple[str, bytes]]) -> list[str]:
    """What the checker says of each file. Fails with the sanitizer's words and the file where it ends early."""
    paths = [folder / f"{number}{ending}" for number, (ending, _) in enumerate(files)]
    for path, (_, content) in zip(paths, files, strict=True):
        path.write_bytes(content)
    given = "".join(f"{path}\n" for path in paths)
    done = subprocess.run([str(checker)], input=given, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == 0, f"{paths[len(said)] if len(said) < len(paths) else 'at the end'}: {done.stderr[:6000]}"
    return said


def test_what_is_not_damaged_is_read(checker: Path, tmp_path: Path) -> None:
    files = [(".json", signed(value)) for value in MANIFESTS] + [(".image", content) for content in FILES.values()]
    assert Counter(outcomes(checker, tmp_path, files)) == {"ok": len(files)}


def test_damage_ends_with_an_error_of_its_own(checker: Path, tmp_path: Path) -> None:
    require_no_fault(checker, tmp_path, seed=1, count=400)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_much_damage_ends_with_an_error_of_its_own(checker: Path, tmp_path: Path, seed: int) -> None:
    require_no_fault(checker, tmp_path, seed=seed, count=2000)


def require_no_fault(checker: Path, folder: Path, *, seed: int, count: int) -> None:
    rng = random.Random(seed)
    said = outcomes(checker, folder, [mutant(rng) for _ in range(count)])
    assert len(said) == count
    codes = Counter(line.split()[0] for line in said)
    assert set(codes) <= {"ok", "3", "4", "6", "8", "9"}, codes
    assert codes["6"] > count // 10 and codes["8"] > count // 10  # the damage is found in most
