"""`.pt2` files of torch.export: fixed and changing sizes, what their outputs are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segc
from segc.errors import CheckpointError, Code, ParityError, ShapeError, SourceError
from segc.frontend.given import Given
from segc.frontend.source import open_source


class Net(nn.Module):
    """A convolution whose result leaves in one form or another."""

    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.conv = nn.Conv2d(3, 1 if form == "sigmoid" else 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> object:
        y = self.conv(x)
        if self.form == "sigmoid":
            return y.sigmoid()
        if self.form == "nhwc":
            return (y.permute(0, 2, 3, 1), x)
        return {"aux": x, "out": y}


class Prompted(Net):
    def forward(self, x: torch.Tensor, prompt: torch.Tensor) -> object:  # type: ignore[override]
        return self.conv(x) + prompt.sum()


def saved(path: Path, module: nn.Module, *inputs: torch.Tensor, dynamic: bool = False) -> Path:
    sizes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},) if dynamic else None
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=sizes), path)
    return path


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("pt2") / "fixed.pt2", Net(), torch.rand(1, 3, 32, 48))


def test_a_program_of_fixed_size_compiles_for_that_size(fixed: Path, tmp_path: Path) -> None:
    bundle = segc.compile(fixed, out=tmp_path / "bundle")
    assert bundle.manifest.input.shape == (1, 3, 32, 48)
    assert bundle.manifest.source.kind == "pt2"
    x = np.random.default_rng(0).random((1, 3, 32, 48), np.float32)
    want = Net().conv(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(segc.load(bundle.path).run(x)["logits"], want, atol=1e-5)


def test_a_program_of_fixed_size_is_not_compiled_for_others(fixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="fixed at 32 x 48"):
        segc.compile(fixed, dynamic=True, out=tmp_path / "bundle")


def test_a_program_of_any_size_compiles_for_any(tmp_path: Path) -> None:
    path = saved(tmp_path / "any.pt2", Net(), torch.rand(1, 3, 32, 48), dynamic=True)
    bundle = segc.compile(path, dynamic=True, trace_shape=(32, 64), out=tmp_path / "bundle")
    assert bundle.manifest.input.shape[2:] == (None, None)


@pytest.mark.parametrize("form", ["dict", "nhwc", "sigmoid"])
def test_the_output_is_found_and_a_sigmoid_at_its_end_left_out(form: str, tmp_path: Path) -> None:
    source = open_source(saved(tmp_path / "a.pt2", Net(form), torch.rand(1, 3, 32, 48)))
    x = torch.rand(1, 3, 32, 48)
    assert source.module is not None
    with torch.no_grad():
        torch.testing.assert_close(source.module(x), Net(form).conv(x))


def test_half_precision_is_widened_and_said(tmp_path: Path) -> None:
    half = saved(tmp_path / "half.pt2", Net().half(), torch.rand(1, 3, 32, 48).half())
    source = open_source(half)
    assert any("float16" in note for note in source.notes)
    assert source.module is not None
    with torch.no_grad():
        made = source.module(torch.rand(1, 3, 32, 48))
    assert made.dtype == torch.float32


def test_preprocessing_is_what_the_user_says(fixed: Path) -> None:
    info = open_source(fixed, given=Given(mean=(1.0, 2.0, 3.0))).info
    assert info.mean == (1.0, 2.0, 3.0)


def test_a_second_input_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "two.pt2", Prompted(), torch.rand(1, 3, 32, 48), torch.rand(4))
    with pytest.raises(SourceError, match=r"(?s)more than the image.*prompt") as error:
        open_source(path)
    assert error.value.code == Code.MODEL_INPUTS


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for name in ("a.pt", "a.torchscript", "b.pt2"):
        torch.jit.save(torch.jit.trace(Net().conv, torch.rand(1, 3, 8, 8)), str(tmp_path / name))
        with pytest.raises(SourceError, match=r"(?s)TorchScript.*torch\.export\.save") as error:
            open_source(tmp_path / name)
        assert error.value.code == Code.TORCHSCRIPT


def test_pickled_objects_are_not_loaded(fixed: Path, tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "bad.pt2"
    with zipfile.ZipFile(fixed) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            new.writestr(item, old.read(item))
        new.writestr("fixed/data/constants/opaque_obj_0", b"anything")
    with pytest.raises(CheckpointError, match="would run code"):
        open_source(path)


def test_a_damaged_file_and_other_misuse_are_refused(fixed: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt2").write_bytes(fixed.read_bytes()[:500])
    with pytest.raises(SourceError, match="cannot be read as a program"):
        open_source(tmp_path / "cut.pt2")
    with pytest.raises(SourceError, match="holds its own weights"):
        open_source(fixed, checkpoint=tmp_path / "a.pth")
    with pytest.raises(SourceError, match="takes 3 channels, not 4"):
        open_source(fixed, channels=4)
    with pytest.raises(SourceError, match="takes no image"):
        open_source(saved(tmp_path / "flat.pt2", nn.Linear(4, 4), torch.rand(2, 4)))


PREPARES = '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5], "do_flip_channel_order": true}'


def test_preprocessing_lies_in_the_program_or_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    program = torch.export.export(Net().eval(), (torch.rand(1, 3, 32, 48),))
    torch.export.save(program, path, extra_files={"preprocessor_config.json": PREPARES})
    torch.export.save(program, tmp_path / "b.pt2")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    inside, beside = open_source(path), open_source(tmp_path / "b.pt2")
    assert inside.info.channel_order == "BGR" and inside.info.mean == pytest.approx((127.5, 102.0, 76.5))
    assert beside.info.channel_order == "RGB" and beside.info.std == (255.0, 255.0, 255.0)
    assert all(any("preprocessor_config.json" in note for note in each.notes) for each in (inside, beside))


def test_what_a_program_cannot_say_is_said(fixed: Path) -> None:
    notes = " ".join(open_source(fixed).notes)
    assert "says nothing about preprocessing" in notes and "masks of files are not compared" in notes
    assert "says nothing" not in " ".join(open_source(fixed, given=Given(mean=(1.0, 2.0, 3.0))).notes)


_LOADS = """
from pathlib import Path
import cv2, torch
from torch import nn

program = torch.export.load(Path(__file__).with_name("any.pt2"))
class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.program = program.module()
    def forward(self, x):
        return self.program(x)
model = MODEL
def predict(path):
    image = cv2.imread(path)[..., ORDER].astype("float32") - 110
    return model(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))["out"].argmax(1)[0]
meta = dict(mean=(110, 110, 110), predict=predict)
"""


@pytest.fixture
def any_size(tmp_path: Path) -> Path:
    return saved(tmp_path / "any.pt2", Net(), torch.rand(1, 3, 32, 48), dynamic=True)


@pytest.mark.parametrize("model", ["program.module()", "Around()"])
def test_a_python_file_that_loads_a_program_names_its_own_way(any_size: Path, model: str) -> None:
    path = any_size.with_name("loads.py")
    path.write_text(_LOADS.replace("MODEL", model).replace("ORDER", "::-1"))
    bundle = segc.compile(path, dynamic=True, trace_shape=(32, 48), out=path.with_name("bundle"))
    (case,) = bundle.report["files"]
    assert case["equal"] == 1.0 and case["tensor_error"] <= 1e-6


def test_a_program_prepared_otherwise_is_refused(any_size: Path) -> None:
    path = any_size.with_name("loads.py")
    path.write_text(_LOADS.replace("MODEL", "program.module()").replace("ORDER", "::"))
    with pytest.raises(ParityError, match="tensor that enters the network differs"):
        segc.compile(path, dynamic=True, trace_shape=(32, 48), out=path.with_name("bundle"))


def test_an_exported_program_is_a_model(any_size: Path) -> None:
    path = any_size.with_name("plain.py")
    path.write_text(
        "from pathlib import Path\nimport torch\nmodel = torch.export.load(Path(__file__).with_name('any.pt2'))\n"
    )
    assert open_source(path).module is not None
