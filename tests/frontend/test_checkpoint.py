"""Checkpoints: every format mmseg users have, read without running anything in them."""

from __future__ import annotations

import argparse
import builtins
import collections
import datetime
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from segc.errors import CheckpointError, FileError
from segc.frontend.checkpoint import Checkpoint, compare, load_into, read_checkpoint
from segc.frontend.source import open_source
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import source


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Weights for NET, none of which it has by itself."""
    return {
        "conv.weight": torch.full((8, 3, 3, 3), 0.5),
        "conv.bias": torch.arange(8.0),
        "head.weight": torch.full((5, 8, 1, 1), -0.25),
        "head.bias": torch.arange(5.0),
    }


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path, **options)
    return path


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


NESTINGS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "at the top": lambda s: s,
    "ordered": lambda s: collections.OrderedDict(s),
    "under state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "under model": lambda s: {"model": s, "optimizer": {"lr": 0.1}},
    "data parallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "EMA only": lambda s: {"ema_state_dict": {"steps": torch.tensor(9), **{f"module.{k}": v for k, v in s.items()}}},
    "EMA beside": lambda s: {
        "state_dict": s,
        "ema_state_dict": {"steps": torch.tensor(9), **{f"module.{k}": -v for k, v in s.items()}},
    },
    "torch.compile": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "torch.compile of a part": lambda s: {k.replace("head.", "head._orig_mod."): v for k, v in s.items()},
    "torch.compile in data parallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "data parallel in torch.compile": lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    "DeepSpeed": lambda s: {"module": s, "ds_config": {"fp16": {"enabled": False}}, "global_steps": 3},
    "timm's EMA": lambda s: {"state_dict_ema": s},
}


@pytest.mark.parametrize("nest", NESTINGS.values(), ids=NESTINGS.keys())
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_weights_are_found_wherever_they_lie(
    tmp_path: Path, state: dict[str, torch.Tensor], nest: Callable[[dict[str, torch.Tensor]], object], zipped: bool
) -> None:
    path = saved(tmp_path, nest(state), _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(path).state, state)


METAS: dict[str, Any] = {
    "a path": Path("/data/train"),
    "dates": [datetime.datetime(2026, 1, 2, 3, 4), datetime.timedelta(hours=2), datetime.UTC],
    "a deque": collections.deque([1, 2.5, "three"], maxlen=8),
    "a defaultdict": collections.defaultdict(list, {"loss": [0.1, 0.2]}),
    "settings": argparse.Namespace(lr=0.1, out=Path("out")),
    "all in one": {
        "seen": collections.defaultdict(int, a=1),
        "at": (Path("a"), datetime.date(2026, 1, 2)),
        "s": {1, 2},
    },
}


@pytest.mark.parametrize("meta", METAS.values(), ids=METAS.keys())
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_what_else_lies_in_checkpoints_is_no_hindrance(
    tmp_path: Path, state: dict[str, torch.Tensor], meta: Any, zipped: bool
) -> None:
    content = {"meta": {"classes": ["a", "b"], "run": meta}, "state_dict": state}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    read = read_checkpoint(path)
    assert same(read.state, state) and read.dataset.classes == ("a", "b")


def test_training_state_in_the_old_format_is_read_too(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    history = pytest.importorskip("mmengine.logging").HistoryBuffer
    content = {"message_hub": {"loss": history([1.0, 0.5], [1, 1])}, "state_dict": state, "n": np.float64(3)}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(path).state, state)


def test_buffers_of_losses_are_no_mismatch() -> None:
    one = torch.ones(1)
    expected = {"head.weight": one, "head.loss_decode.class_weight": one}
    assert compare(expected, {"head.weight": one, "head.loss_decode.1.prior": one, "loss.w": one}).lines() == []
    assert compare(expected, {"head.weight": one, "head.lossless": one}).lines() == ["unexpected: head.lossless (1,)"]
    assert compare(expected, {"head.weight": one, "data_preprocessor.mean": one}).lines() == []


@pytest.mark.parametrize(("there", "here", "said"), [("net.", "", "without the prefix 'net.'"), ("", "net.", "with")])
def test_a_prefix_that_differs_is_named(there: str, here: str, said: str) -> None:
    keys = [f"layer{at}.weight" for at in range(9)]
    model = nn.Module()
    for key in keys:
        model.register_buffer("x", None)
        part: Any = model
        for name in (here + key).split(".")[:-1]:
            if not hasattr(part, name):
                part.add_module(name, nn.Module())
            part = getattr(part, name)
        part.register_buffer("weight", torch.ones(2))
    found = Checkpoint(Path("w.pth"), {there + key: torch.zeros(2) for key in keys})
    for allow in (False, True):
        with pytest.raises(CheckpointError, match="9 of 9 keys would fit") as caught:
            load_into(model, found, allow_mismatch=allow)
        assert said in str(caught.value)


def test_a_model_with_a_part_called_module_keeps_its_names(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "head.weight": torch.zeros(3)}
    assert same(read_checkpoint(saved(tmp_path, state)).state, state)


def test_loaded_weights_are_those_of_the_file(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    opened = open_source(source(tmp_path), checkpoint=saved(tmp_path, state))
    assert opened.module is not None
    inside = {k.removeprefix("module."): v for k, v in opened.module.state_dict().items()}
    assert same(inside, state)
    assert opened.info.weights == "checkpoint"
    assert opened.info.checkpoint is not None and opened.info.checkpoint["name"] == "weights.pth"


def test_the_dataset_comes_along_in_both_spellings(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    palette = [[1, 2, 3], [4, 5, 6]]
    new = {"state_dict": state, "meta": {"dataset_meta": {"classes": ("road", "car"), "palette": palette}}}
    old = {"state_dict": state, "meta": {"CLASSES": ["road", "car"], "PALETTE": palette}}
    for content in (new, old):
        read = read_checkpoint(saved(tmp_path, content))
        assert (read.dataset.classes, read.dataset.palette) == (("road", "car"), ((1, 2, 3), (4, 5, 6)))
    assert read_checkpoint(saved(tmp_path, {"state_dict": state, "meta": {"epoch": 3}})).dataset.classes is None


def test_a_checkpoint_of_mmengines_runner_loads(tmp_path: Path) -> None:
    """Its message hub holds HistoryBuffers, NumPy scalars and arrays, its meta a config; EMA weights lie beside."""
    pytest.importorskip("mmengine")
    from mmengine.dataset import DefaultSampler
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Tiny(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, inputs: Any, data_samples: Any = None, mode: str = "loss") -> Any:
            return {"loss": self.conv(torch.stack(list(inputs))).square().mean()}

    class Images(torch.utils.data.Dataset[Any]):
        metainfo: ClassVar[dict[str, Any]] = {"classes": ("sky", "sea"), "palette": [[0, 0, 255], [0, 255, 0]]}

        def __len__(self) -> int:
            return 4

        def __getitem__(self, at: int) -> Any:
            return {"inputs": torch.full((3, 4, 4), float(at + 1)), "data_samples": at}

    model = Tiny()
    runner = Runner(
        model=model, work_dir=str(tmp_path), experiment_name="tiny", default_scope=None, log_level="ERROR",
        train_dataloader={"dataset": Images(), "batch_size": 2, "sampler": {"type": DefaultSampler, "shuffle": False}},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}}, train_cfg={"by_epoch": False, "max_iters": 3},
        param_scheduler={"type": "MultiStepLR", "milestones": [2], "by_epoch": False},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 3, "by_epoch": False}},
        custom_hooks=[{"type": "EMAHook"}],
    )  # fmt: skip
    runner.message_hub.update_scalar("train/share", np.float64(0.5))
    runner.message_hub.update_info("counts", np.arange(3))
    runner.train()
    path = tmp_path / "iter_3.pth"
    raw = torch.load(path, weights_only=False)  # of the test's own making
    assert raw["message_hub"]["log_scalars"] and raw["meta"]["cfg"] and "ema_state_dict" in raw
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # so plain torch refuses it
    read = read_checkpoint(path)
    assert same(read.state, dict(raw["state_dict"]))
    assert (read.dataset.classes, read.dataset.palette) == (("sky", "sea"), ((0, 0, 255), (0, 255, 0)))


class Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, function: Callable[..., Any], *words: Any) -> None:
        self.reduced = function, words

    def __reduce__(self) -> Any:
        return self.reduced


def bombs(witness: Path) -> dict[str, Bomb]:
    code = f"open({str(witness)!r}, 'w').close()"
    return {
        "builtins.open": Bomb(open, str(witness), "w"),
        "posix.system": Bomb(os.system, f"touch {witness}"),
        "builtins.exec": Bomb(exec, code),
        "builtins.eval": Bomb(builtins.eval, code),
        "pathlib.Path": Bomb(Path.touch, witness),
        "builtins.getattr": Bomb(getattr, witness, "touch"),
    }


@pytest.mark.parametrize("name", bombs(Path("w")))
@pytest.mark.parametrize("form", ["zip", "old", "bare pickle", "beside weights"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str, form: str
) -> None:
    witness = tmp_path / "witness"
    bomb = bombs(witness)[name]
    if form == "bare pickle":
        path = tmp_path / "weights.pth"
        path.write_bytes(pickle.dumps({"state_dict": bomb}, protocol=2))
    elif form == "beside weights":
        path = saved(tmp_path, {"state_dict": state, "meta": {"hook": bomb}})
    else:
        path = saved(tmp_path, bomb, _use_new_zipfile_serialization=form == "zip")
    result = segc("compile", source(tmp_path), "--checkpoint", path, "-o", tmp_path / "b")
    refused(result, CheckpointError.exit_code, "weights.pth", "more than weights", "nothing of it was executed")
    assert not witness.exists() and not (tmp_path / "b").exists()


def test_code_is_not_smuggled_in_beside_training_state(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """With mmengine's classes in the file, `getattr` is let through as a stand-in that gets nothing."""
    history = pytest.importorskip("mmengine.logging").HistoryBuffer
    witness = tmp_path / "witness"
    content = {"state_dict": state, "hub": history([1.0], [1]), "hook": Bomb(getattr, witness, "touch")}
    assert same(read_checkpoint(saved(tmp_path, content)).state, state)  # the path is inert too
    content["hook"] = Bomb(os.system, f"touch {witness}")
    with pytest.raises(CheckpointError, match="more than weights"):
        read_checkpoint(saved(tmp_path, content))
    assert not witness.exists()


def test_a_missing_checkpoint_is_a_file_error(tmp_path: Path) -> None:
    result = segc("compile", source(tmp_path), "--checkpoint", tmp_path / "no.pth", "-o", tmp_path / "b")
    refused(result, FileError.exit_code, "no.pth", ".pth file")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero bytes": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "cut off": (cut, "cannot be read as a checkpoint"),
    "text": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), ""),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 4), ""),
    "no weights": (lambda path: torch.save({"epoch": 3, "lr": 0.1}, path), "holds no weights"),
    "a number": (lambda path: torch.save(3, path), "it is a int"),
}


@pytest.mark.parametrize("harm, said", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_file_without_weights_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], harm: Callable[[Path], object], said: str
) -> None:
    path = saved(tmp_path, state)
    harm(path)
    result = segc("compile", source(tmp_path), "--checkpoint", path, "-o", tmp_path / "b")
    refused(result, CheckpointError.exit_code, "weights.pth", said)


def test_another_architecture_is_refused_by_name_and_shape(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["head.weight"] = torch.zeros(7, 8, 1, 1)
    state["neck.weight"] = torch.zeros(4, 4)
    del state["conv.bias"]
    path = saved(tmp_path, state)
    words = ["compile", source(tmp_path), "--checkpoint", path, "--shape", "8x8", "-o", tmp_path / "b"]
    said = (
        "1 keys missing, 1 unexpected, 1 of another shape",
        "missing: conv.bias (8,)",
        "unexpected: neck.weight (4, 4)",
        "shape: head.weight: checkpoint (7, 8, 1, 1), model (5, 8, 1, 1)",
        "--allow-mismatch",
    )
    refused(segc(*words), CheckpointError.exit_code, *said)
    allowed = segc(*words, "--allow-mismatch")
    assert allowed.code == 0
    assert "note: --allow-mismatch: missing: conv.bias" in allowed.out


def test_allow_mismatch_loads_what_fits_and_keeps_the_rest(state: dict[str, torch.Tensor]) -> None:
    conv, head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1)
    kept = head.weight.clone()
    model = nn.Sequential(collections.OrderedDict(conv=conv, head=head))
    mismatch = load_into(model, Checkpoint(Path("w.pth"), state), allow_mismatch=True)
    assert torch.equal(conv.weight, state["conv.weight"])
    assert torch.equal(head.weight, kept)
    assert len(mismatch.shapes) == 2


def test_a_checkpoint_that_shares_nothing_is_refused_even_then(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.ones(1)})
    result = segc("compile", source(tmp_path), "--checkpoint", path, "--allow-mismatch", "-o", tmp_path / "b")
    refused(result, CheckpointError.exit_code, "no key of", "unexpected: a (1,)")


def test_counters_and_old_ema_buffers_are_no_mismatch() -> None:
    one = torch.ones(1)
    expected = {"bn.weight": one, "bn.num_batches_tracked": one}
    assert compare(expected, {"bn.weight": one, "ema_bn_weight": one}).lines() == []
    assert compare(expected, {"bn.bias": one}).lines() == ["missing: bn.weight (1,)", "unexpected: bn.bias (1,)"]


def test_long_lists_of_keys_are_cut() -> None:
    lines = compare({f"k{i}": torch.ones(1) for i in range(30)}, {}).lines()
    assert len(lines) == 9 and lines[-1] == "missing: ... and 22 more"
