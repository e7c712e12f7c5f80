"""Damaged and crafted files, each from a seed, and what segc makes of them: an answer or a SegcError, nothing else.

tools/soak.py tries many, tests/robustness/test_mutants.py some.
"""

from __future__ import annotations

import collections
import copy
import json
import pickle
import random
import struct
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import onnx
from google.protobuf.message import Message

import segc
from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import self_digest
from segc.bundle.report import read_report
from segc.errors import SegcError
from segc.isolation.native import Limits, guarded
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised
from tests.helpers.random_wiring import wired
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, parsed

SECONDS = 120.0  # of one mutant
LIMITS = Limits(memory=3 << 30, seconds=60.0)
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 256, 2**31, 2**40, -(2**63), 10**400, 0.5, -0.0, 1e39, 1e300, "", "a",
    "int4", "\0", "../x", "é", "\ud800", "n" * 300, [], [[]], [0], [1, 2, 3, 4], {}, {"a": None},
)  # fmt: skip
Attempt = Callable[[random.Random, Path], object]


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes with one to eight faults: flipped, changed, cut out, doubled, zeroed, or the end lost."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not made:
            break
        at, many = rng.randrange(len(made)), rng.choice((1, 2, 4, 16, 64))
        how = rng.randrange(7)
        if how == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            del made[at : at + many]
        elif how == 3:
            made[at:at] = made[at : at + many]
        elif how == 4:
            made[at : at + many] = bytes(min(many, len(made) - at))
        elif how == 5:
            del made[at:]
        else:
            made[at : at + 8] = struct.pack(rng.choice(("<q", ">q")), rng.choice((2**63 - 1, -1, 2**31, 2**40)))
    return bytes(made)


def changed_json(rng: random.Random, value: Any) -> Any:
    """A JSON value with one to three parts replaced, removed, renamed or doubled."""
    holder = {"": json.loads(json.dumps(value))}
    for _ in range(rng.choice((1, 1, 2, 3))):
        part: Any = holder
        key: Any = ""
        while isinstance(part[key], (dict, list)) and part[key] and rng.random() < 0.85:
            part = part[key]
            key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
        how = rng.randrange(8)
        if how == 0 and key != "":
            del part[key]
        elif how == 1 and isinstance(part, dict):
            part[rng.choice(("novelty", "", "\0", "name"))] = copy.deepcopy(part[key])
        elif how == 2 and isinstance(part[key], list):
            part[key] = part[key] * 2
        elif how == 3 and isinstance(part[key], (int, float)) and not isinstance(part[key], bool):
            factor = rng.choice((-1, 2, 1000, 0, 0.5))
            part[key] = part[key] * (2 if abs(part[key]) > 1e300 else factor) + rng.choice((0, 1, -1))
        else:
            part[key] = copy.deepcopy(rng.choice(ODD))  # a later change of this value must not change ODD
    return holder[""]


def changed_message(rng: random.Random, message: Message) -> None:
    """Change one to three fields anywhere in a protobuf."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        part = message
        for _ in range(12):
            inner = [(f, v) for f, v in part.ListFields() if f.type == f.TYPE_MESSAGE]
            if not inner or rng.random() < 0.15:
                break
            field, value = rng.choice(inner)
            part = rng.choice(list(value)) if field.is_repeated else value
        _change_field(rng, part)


def _change_field(rng: random.Random, part: Message) -> None:
    field = rng.choice(part.DESCRIPTOR.fields)
    many = field.is_repeated
    value = getattr(part, field.name)
    if many and len(value) and rng.random() < 0.5:
        at = rng.randrange(len(value))
        if rng.random() < 0.4:
            del value[at]
        elif field.type == field.TYPE_MESSAGE:
            value.append(value[at])
        else:
            value[at] = _odd_scalar(rng, field)
    elif field.type == field.TYPE_MESSAGE:
        value.add() if many else value.SetInParent()
    elif many:
        value.append(_odd_scalar(rng, field))
    elif rng.random() < 0.2:
        part.ClearField(field.name)
    else:
        setattr(part, field.name, _odd_scalar(rng, field))


def _odd_scalar(rng: random.Random, field: Any) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(
            ("", "x", "y", "w", "a", "\0", "é", "n" * 300, "Relu", "If", "Loop", "../a", "location", "-1")
        )
    if field.type == field.TYPE_BYTES:
        return rng.choice((b"", b"\0", b"\xff" * 9, b"linear", rng.randbytes(24)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    if field.type == field.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    small = (0, 1, 2, 3, 4, 7, 16)
    wide = field.type in (field.TYPE_INT64, field.TYPE_SINT64)
    unsigned = field.type in (field.TYPE_UINT32, field.TYPE_UINT64)
    return rng.choice(
        (*small, *((2**31 - 1,) if unsigned else (-1, 2**31 - 1)), *((2**40, -(2**63), 2**63 - 1) if wide else ()))
    )


# --- what is tried


def attempt_manifest(rng: random.Random, folder: Path) -> None:
    """segc.json and report.json, signed again so that they are read to the end; then an image is segmented."""
    path = bundle(folder / "b")
    value = json.loads((path / "segc.json").read_bytes())
    if rng.random() < 0.3:
        name = rng.choice(("segc.json", "report.json"))
        (path / name).write_bytes(damaged(rng, (path / name).read_bytes()))
    elif rng.random() < 0.3:
        report = changed_json(rng, json.loads((path / "report.json").read_bytes()))
        (path / "report.json").write_text(json.dumps(report), encoding="utf-8", errors="surrogatepass")
    else:
        del value["sha256"]
        made = changed_json(rng, value)
        try:
            signed = canonical({**made, "sha256": self_digest(made)} if isinstance(made, dict) else made)
        except ValueError:  # text that is not Unicode
            signed = json.dumps(made).encode()
        (path / "segc.json").write_bytes(signed)
    _tolerate(lambda: read_report(path))
    _tolerate(lambda: segc.inspect(path))
    segc.load(path, threads=1).segment(photograph(20, 30))


def attempt_bundle(rng: random.Random, folder: Path) -> None:
    """Engine files: damaged, or exchanged and signed again."""
    path = bundle(folder / "b")
    engine = path / "model.onnx"
    engine.write_bytes(damaged(rng, engine.read_bytes()))
    if rng.random() < 0.2:
        rng.choice((engine.unlink, lambda: engine.write_bytes(b"")))()
    segc.load(path, threads=1).segment(photograph(20, 30))


@cache
def _originals() -> list[bytes]:
    models = [parsed(CONV), parsed(DYNAMIC_CONV), *(wired(seed) for seed in range(12))]
    for model in models[:2]:
        del model.opset_import[1]
    return [model.SerializeToString() for model in models]


def attempt_onnx(rng: random.Random, folder: Path) -> None:
    """ONNX files: bytes and fields changed; opened, inspected and optimized."""
    content, path = rng.choice(_originals()), folder / "m.onnx"
    if rng.random() < 0.3:
        content = damaged(rng, content)
    else:
        model = onnx.ModelProto.FromString(content)
        changed_message(rng, model)
        content = model.SerializeToString()
    path.write_bytes(content)
    with guarded(LIMITS, "the mutant", "segc.graph.libraries"):
        _tolerate(lambda: segc.inspect(path))
        _tolerate(lambda: segc.optimize(path))
        if rng.random() < 0.25:
            target = rng.choice(("onnxruntime", "openvino", "ncnn", "tensorrt", "pplnn"))
            _tolerate(lambda: segc.optimize(path, target=target, shape=(6, 8)))
        if rng.random() < 0.25:
            segc.compile(path, shape=(8, 12), out=folder / "out", threads=1)


def attempt_checkpoint(rng: random.Random, folder: Path) -> None:
    """Checkpoints: bytes, and metadata of any type."""
    import torch

    from segc.frontend.checkpoint import load_into, read_checkpoint

    state: dict[Any, Any] = {"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)}
    meta = {
        "CLASSES": ["a", "b"],
        "PALETTE": [[1, 2, 3], [4, 5, 6]],
        "dataset_meta": {"classes": ["a"], "palette": [[1, 2, 3]]},
    }
    content: Any = {"state_dict": state, "meta": meta}
    if rng.random() < 0.5:
        content = {"state_dict": state, "meta": changed_json(rng, meta)}
    if rng.random() < 0.2:
        state[rng.choice(("conv.weight", 5, None, ""))] = rng.choice((None, 3, torch.zeros(0), torch.zeros(2, 3), "x"))
    path = folder / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.7)
    if rng.random() < 0.6:
        path.write_bytes(damaged(rng, path.read_bytes()))
    model = torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(3, 2, 1)))
    load_into(model, read_checkpoint(path), allow_mismatch=rng.random() < 0.5)


@cache
def _image(suffix: str) -> bytes:
    picture = photograph(24, 32)
    return bytes(cv2.imencode(suffix, picture)[1])


def attempt_image(rng: random.Random, folder: Path) -> None:
    """Image files of all formats, among a good one that must be segmented."""
    suffix = rng.choice((".png", ".jpg", ".bmp", ".webp", ".tif", ".jp2", ".ppm", ".pgm"))
    path = bundle(folder / "b")
    (folder / f"a{suffix}").write_bytes(damaged(rng, _image(suffix)))
    (folder / "good.png").write_bytes(_image(".png"))
    result = segc.run(
        path, [folder / f"a{suffix}", folder / "good.png"], out=folder / "out", threads=1, max_pixels=1 << 24
    )
    assert any(done.image.name == "good.png" for done in result.images), "a good image was not segmented"


ATTEMPTS: dict[str, Attempt] = {
    "manifest": attempt_manifest, "bundle": attempt_bundle, "onnx": attempt_onnx, "checkpoint": attempt_checkpoint,
    "image": attempt_image,
}  # fmt: skip


def _tolerate(work: Callable[[], object]) -> None:
    try:
        work()
    except SegcError as error:
        str(error)


def tried(kind: str, seed: int, folder: str) -> str:
    """Says ok, refused, or what went wrong and where. Work of a child process."""
    import shutil
    import warnings

    warnings.filterwarnings("ignore")
    place = Path(folder) / f"{kind}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        ATTEMPTS[kind](random.Random(f"{kind} {seed}"), place)
    except SegcError as error:
        pickle.loads(pickle.dumps(error))
        str(error).encode("utf-8", "backslashreplace")
        return "refused"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = next((f for f in reversed(frames) if "/segc/" in f.filename or "/passes/" in f.filename), frames[-1])
        return f"{type(error).__name__} at {Path(own.filename).name}:{own.lineno}: {str(error)[:100]}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return "ok"


def campaign(kind: str, seeds: range, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Counts of answers, and "kind seed: what" for each fault, of mutants in child processes."""
    counts = {"ok": 0, "refused": 0}
    faults: list[str] = []
    child: Child | None = None
    for seed in seeds:
        child = child or Child("segc.isolation.calls", memory=8 << 30, fresh=True)
        try:
            answer = child.ask((tried, (kind, seed, str(folder))), SECONDS)
        except (ChildEnded, ChildRaised) as ended:
            answer, child = f"the process ended: {ended}", None
        if answer in counts:
            counts[answer] += 1
        else:
            faults.append(f"{kind} {seed}: {answer}")
    if child is not None:
        child.close()
    return counts, faults
