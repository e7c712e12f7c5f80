"""Write what measure.py takes to a machine with a GPU, in parts of at most 60 MB; run it where segc and mmsegmentation
are. Needs TensorRT for RTX, and no GPU.

    python benchmarks/gpu/prepare.py FOLDER [FAMILY …] [--timed FAMILY …] [--size HxW] [--python 3.12]
                                     [--no-tensorrt] [--no-probes] [--keep-onnx]

FAMILY: of segc.support_matrix.families, default all 33, at --size (default 128x128, as the support matrix is made):
engines in float32, static and dynamic, logits and mask, which are the cells of the matrix, and in float16, static,
logits and mask. --timed: families (default some that differ in kind) at their crop sizes: the exporter's own graph, and
segc's in float32 and float16. All engines are built here, as every compile builds them.

FOLDER gets, in this order of names:

    00-tensorrt.tar.xz    TensorRT for RTX, unpacked wheels for --python: what runs engines, 55 MiB
    01-probes.tar.xz      one engine of many small networks, see probes.py
    02-models.tar …       a .tar.xz a model, in parts of at most 60 MB

A model's weights do not travel. They are drawn from the names of the parameters (weights.py), with the deviation that
segc's seeded weights have, BatchNorm is calibrated on them, and the model so made is compiled. An engine holds its
constants as they are; each is cut out of it and described by a recipe: the drawn weight, permuted, times a factor a
channel. So a model and its eight engines need about a megabyte.

The reference is the model itself in PyTorch: model.pt2, as torch.export saves it, whose weights are drawn there as
well; and, for a machine whose torch does not read that file, and for the sizes of dynamic engines, what PyTorch gave
here: every class, and the logits of each 8th row and column.

A model that is there already is not made again, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch

sys.path.insert(0, str(Path(__file__).parent))
import probes
import weights

from segc.cli import arguments
from segc.commands.compile import compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request, open_shared
from segc.frontend import calibrate
from segc.frontend.model import Source
from segc.parity.reference import reference_of
from segc.support_matrix.families import FAMILIES
from segc.targets.tensorrt.engine_build import build
from segc.targets.tensorrt.flavor import FLAVORS

PART = 60_000_000  # bytes
STEP = 8  # of the rows and columns whose logits travel
TIMED = ("fcn", "pspnet", "deeplabv3plus", "segformer", "fastscnn", "bisenetv2", "ocrnet", "upernet")
FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 2**28}]
Row = dict[str, Any]

# (what, precision, output, dynamic): fp32 first, because the constants of fp16 are found from those of fp32
CELLS = (
    ("segc", "fp32", "logits", False), ("segc", "fp32", "mask", False), ("segc", "fp32", "logits", True),
    ("segc", "fp32", "mask", True), ("segc", "fp16", "logits", False), ("segc", "fp16", "mask", False),
)  # fmt: skip
SPEED = (
    ("plain", "fp32", "logits", False), ("segc", "fp32", "logits", False), ("segc", "fp32", "mask", False),
    ("segc", "fp16", "logits", False), ("segc", "fp16", "mask", False),
)  # fmt: skip


class Prepared:
    """One model in the making: its drawn weights, the recipes of its constants, its files."""

    def __init__(self, source: str, name: str, size: tuple[int, int] | None, folder: Path) -> None:
        self.folder, self.cache = folder, CompileCache()
        self.request = Request(source, mode="whole", target="tensorrt", options={"defer": "yes"}, verify=True)
        self.source = open_shared(self.request, self.cache)
        self.size = size or self.source.info.shape
        module = self.source.module
        assert module is not None, f"{source} is no PyTorch model"
        drawn = draw_weights(self.source)
        self.recipes = weights.Recipes(
            {key: p.detach().numpy() for key, p in module.named_parameters() if key in drawn}
        )
        self.row: Row = {
            "model": name, "source": str(source), "size": list(self.size), "weights": drawn, "engines": [],
            "classes": self.source.info.channels, "threshold": self.source.info.threshold,
        }  # fmt: skip
        self.arrays: dict[str, weights.Array] = {}
        self.numbers: dict[str, int] = {}

    def engine(self, what: str, precision: str, output: str, dynamic: bool, keep: Path | None) -> None:
        """Build one engine, and write what is left of it without its constants. keep: a folder for its graph."""
        with tempfile.TemporaryDirectory() as made:
            graph, profile, cell = self._graph(Path(made), what, precision, output, dynamic)
            start = time.perf_counter()
            build.build_file(graph, profile, Path(made), FLAVORS["rtx"])
            plan = (Path(made) / "model.engine").read_bytes()
            row = {
                "what": what, "precision": precision, "output": output, "dynamic": dynamic, "profile": profile,
                "bytes": len(plan), "sha256": sha256(plan).hexdigest(), "cell": cell,
                "build_s": round(time.perf_counter() - start, 2),
            }  # fmt: skip
            row["file"] = f"{what}-{precision}-{output}{'-dynamic' if dynamic else ''}.rest"
            rest, row["pieces"] = weights.cut(plan, self._constants(graph))
            (self.folder / row["file"]).write_bytes(rest)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{row['sha256']}.onnx").write_bytes(graph.read_bytes())
            self.row["engines"].append(row)

    def _constants(self, path: Path) -> Mapping[int, weights.Array]:
        """The graph's larger constants, by the number of their recipe."""
        found = {}
        for tensor in onnx.load(path).graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.nbytes >= weights.LEAST:
                key = sha256(array.tobytes() + str((array.shape, array.dtype)).encode()).hexdigest()
                if key not in self.numbers:
                    self.numbers[key] = self.recipes.add(array)
                found[self.numbers[key]] = array
        return found

    def _graph(
        self, made: Path, what: str, precision: str, output: str, dynamic: bool
    ) -> tuple[Path, Row | None, Row | None]:
        """The ONNX file that an engine is built from, its profile, and its cell of the matrix."""
        if what == "plain":
            program = torch.onnx.export(
                self.source.module, (self._image(),), dynamo=True, opset_version=20, verbose=False
            )  # type: ignore[arg-type]
            assert program is not None
            return made / build.write_onnx(program.model_proto, made / "plain.onnx")[0], None, None
        where: Row = {"dynamic": True, "trace_shape": self.size} if dynamic else {"shape": self.size}
        request = replace(
            self.request, precision=precision, output=output, out=made / "bundle", verify=output == "logits", **where
        )
        bundle = compile_request(request, cache=self.cache)
        if precision == "fp32" and output == "logits":
            self._keep_references(bundle.path / "reference.npz", dynamic)
            self.sizes = list(dict.fromkeys("x".join(map(str, c["shape"])) for c in bundle.report["parity"]["cases"]))
        cell = None
        if precision == "fp32":
            cell = {
                "family": self.row["model"].partition("@")[0], "config": str(self.row["source"]), "target": "tensorrt",
                "shape": "dynamic" if dynamic else "static", "output": output, "graph": bundle.report["graph"],
                "sizes": self.sizes,
            }  # fmt: skip
        return bundle.path / "model.onnx", json.loads((bundle.path / "build.json").read_bytes())["profile"], cell

    def _keep_references(self, path: Path, dynamic: bool) -> None:
        """The gate's inputs with PyTorch's answers: all classes, logits of each STEP-th row and column."""
        run = reference_of(self.source)
        with np.load(path) as stored:
            inputs = [stored[f"x{index}"] for index in range(len(stored["names"]))]
        for index, x in enumerate(inputs):
            logits, name = run(x), f"{'dynamic' if dynamic else 'static'}{index}"
            self.arrays |= {
                f"{name}.x": x,
                f"{name}.mask": logits.argmax(1).astype(np.uint8 if logits.shape[1] < 256 else np.uint16),
                f"{name}.logits": logits[:, :, ::STEP, ::STEP].copy(), f"{name}.largest": np.abs(logits).max(),
            }  # fmt: skip

    def _image(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, self.source.info.in_channels, *self.size, generator=generator)

    def write(self) -> None:
        """The model as torch.export saves it, without the drawn weights; the recipes; the references."""
        module = self.source.module
        assert module is not None
        with torch.no_grad():
            program = torch.export.export(module.eval(), (self._image(),))
        for key in self.row["weights"]:
            program.state_dict[key] = torch.nn.Parameter(torch.zeros_like(program.state_dict[key]))
        torch.export.save(program, self.folder / "model.pt2")
        np.savez(self.folder / "arrays.npz", **self.arrays)  # type: ignore[arg-type]
        np.savez(self.folder / "recipes.npz", **self.recipes.arrays)  # type: ignore[arg-type]
        self.row["recipes"] = self.recipes.rows
        self.row["stored_bytes"] = sum(
            self.recipes.arrays[r["stored"]].nbytes for r in self.recipes.rows if "stored" in r
        )
        (self.folder / "model.json").write_text(json.dumps(self.row))


def draw_weights(source: Source) -> Row:
    """Draw the model's larger parameters from their names, with the deviations they have; calibrate its BatchNorm.

    Returns the shape and deviation of each.
    """
    module, drawn = source.module, Row()
    assert module is not None
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            deviation = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
            if parameter.dtype != torch.float32 or parameter.nbytes < weights.LEAST or not deviation > 0:
                continue
            drawn[name] = {"shape": list(parameter.shape), "deviation": deviation}
            parameter.copy_(torch.from_numpy(weights.draw(name, tuple(parameter.shape), deviation)))
    for size in ((256, 256), source.info.shape):
        try:
            calibrate.calibrate_batch_norm(module, size, source.info.in_channels)
            break
        except Exception:  # the model may reject the first size
            continue
    return drawn


def prepare(
    source: str, name: str, size: tuple[int, int] | None, engines: Sequence[Any], out: Path, keep: Path | None = None
) -> None:
    """Write one model's .tar.xz. source: whatever `segc compile` takes that is a PyTorch model."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / name
        folder.mkdir()
        model = Prepared(source, name, size, folder)
        for asked in engines:
            model.engine(*asked, keep=keep)
        model.write()
        out.mkdir(parents=True, exist_ok=True)
        pack(
            {path.relative_to(made).as_posix(): path.read_bytes() for path in sorted(folder.iterdir())},
            out / f"{name}.tar.xz",
        )


def pack(files: Mapping[str, bytes], path: Path, filters: list[Any] | None = None) -> None:
    """Write a .tar.xz, whole or not at all."""
    part = path.with_suffix(".part")
    used = filters or [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**26}]
    with lzma.open(part, "wb", filters=used) as raw, tarfile.open(fileobj=raw, mode="w|") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    part.rename(path)


def runtime_files(folder: Path, python: str) -> dict[str, bytes]:
    """The files of TensorRT for RTX as it is installed here, for another version of Python, from its wheels."""
    from segc.targets.tensorrt.flavor import version_of

    found = version_of(FLAVORS["rtx"])
    names = [f"tensorrt_rtx_cu12_{part}=={found}" for part in ("libs", "bindings")]
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (17, 27, 28)]
    asked = [word for name in platforms for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*command, "--python-version", python, "--implementation", "cp", *asked, *names], check=True)
    files = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            files |= {f"site/{name}": archive.read(name) for name in archive.namelist()}
    return files


def parts(files: Sequence[Path], first: int) -> Iterator[Path]:
    """Gather files into uncompressed archives of at most PART bytes, numbered from `first`."""
    groups: list[list[Path]] = [[]]
    for path in files:
        if groups[-1] and sum(p.stat().st_size + 1024 for p in [*groups[-1], path]) > PART - 10240:
            groups.append([])
        groups[-1].append(path)
    for number, group in enumerate(groups, first):
        path = files[0].parent.parent / f"{number:02}-models.tar"
        with tarfile.open(path, "w") as tar:
            for member in group:
                tar.add(member, member.name)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--timed", nargs="*", default=TIMED, metavar="FAMILY")
    parser.add_argument("--size", default="128x128", metavar="HxW")
    parser.add_argument("--python", default="3.12", metavar="VERSION")
    parser.add_argument("--no-tensorrt", action="store_true", help="TensorRT for RTX is there already")
    parser.add_argument("--no-probes", action="store_true", help="without the many small networks")
    parser.add_argument(
        "--keep-onnx", action="store_true", help="keep the graphs too, in FOLDER/onnx, for a run with a stand-in"
    )
    args = parser.parse_args()
    models = args.folder / "models"
    size = arguments.shape(args.size)
    small = [(family, f"{family}@{args.size}", size, CELLS) for family in args.families or FAMILIES]
    asked = [*small, *((family, f"{family}@crop", None, SPEED) for family in args.timed)]
    models.mkdir(parents=True, exist_ok=True)
    if not args.no_tensorrt and not (runtime := args.folder / "00-tensorrt.tar.xz").is_file():
        with tempfile.TemporaryDirectory() as wheels:
            pack(runtime_files(Path(wheels), args.python), runtime, FILTERS)
    if not args.no_probes:
        pack(probes.prepared(), args.folder / "01-probes.tar.xz")
    done = []
    for family, name, shape, engines in asked:
        path, start = models / f"{name}.tar.xz", time.perf_counter()
        if not path.is_file():
            try:
                prepare(
                    FAMILIES[family],
                    name,
                    shape,
                    engines,
                    models,
                    keep=args.folder / "onnx" if args.keep_onnx else None,
                )
            except Exception as error:  # one model that fails costs itself only
                print(f"{name}: failed: {type(error).__name__}: {error}", flush=True)
                continue
            gc.collect()
        done.append(path)
        print(f"{name}: {path.stat().st_size} bytes, {time.perf_counter() - start:.0f} s", flush=True)
    for path in parts(done, 2):
        print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
