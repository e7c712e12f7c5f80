"""The README of a bundle: how to run the model with PPLNN, from the shell, from Python and from C++."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

TEXT = """\
# This model in PPLNN

`model.onnx` (opset 11) was written for the {device} engine of PPLNN, `pplnn.json` holds the settings of that engine.
PPLNN is OpenPPL's ppl.nn, built from its sources (https://github.com/openppl-public/ppl.nn):

    ./build.sh {build} -DPPLNN_ENABLE_PYTHON_API=ON

What package indexes call pyppl is another project; do not install it.

- input `{input}`: float32 {input_shape}, normalised as `segc.json` says under `preprocessing`
- output `{output}`: {output_type} {output_shape}{narrow}

## Shell

    pplnn --use-{device} --onnx-model model.onnx{flags} --in-shapes {shape} --save-outputs

## Python

```python
{python}```

## C++

```cpp
{cpp}```
{notes}"""

PYTHON = """\
import numpy
from pyppl import common, nn


def check(status):
    if status != common.RC_SUCCESS:
        raise RuntimeError(common.GetRetCodeStr(status))


{engine}
builder = nn.onnx.RuntimeBuilderFactory.Create()
check(builder.LoadModelFromFile("model.onnx"))
resources = nn.onnx.RuntimeBuilderResources()
resources.engines = [engine]
check(builder.SetResources(resources))
check(builder.Preprocess())
runtime = builder.CreateRuntime()

x = numpy.zeros(({dims}), numpy.float32)  # your image
check(runtime.GetInputTensor(0).ConvertFromHost(x))
check(runtime.Run())
y = numpy.array(runtime.GetOutputTensor(0).ConvertToHost())
print(y.shape, y.dtype)
"""

PYTHON_ENGINES = {
    "x86": """\
options = nn.x86.EngineOptions()
options.mm_policy = nn.x86.{mm_policy}
engine = nn.x86.EngineFactory.Create(options)
""",
    "cuda": """\
options = nn.cuda.EngineOptions()
options.device_id = {device_id}
options.mm_policy = nn.cuda.{mm_policy}
engine = nn.cuda.EngineFactory.Create(options)
check(engine.Configure(nn.cuda.ENGINE_CONF_SET_KERNEL_TYPE, common.DATATYPE_{kernel}))
open("{algorithm_file}", "a").close()  # the first run chooses algorithms and writes them down, later runs read them
check(engine.Configure(nn.cuda.ENGINE_CONF_EXPORT_ALGORITHMS, "{algorithm_file}"))
check(engine.Configure(nn.cuda.ENGINE_CONF_IMPORT_ALGORITHMS, "{algorithm_file}"))
""",
}

CPP = """\
#include "ppl/nn/engines/{device}/engine_factory.h"
#include "ppl/nn/models/onnx/runtime_builder_factory.h"

#include <cstdint>
#include <memory>
#include <vector>

using namespace ppl::nn;
using namespace ppl::common;

int main() {{
    {device}::EngineOptions options;
    options.mm_policy = {device}::{mm_policy};
    std::unique_ptr<Engine> engine({device}::EngineFactory::Create(options));
{configure}    Engine* engines[] = {{engine.get()}};

    std::unique_ptr<onnx::RuntimeBuilder> builder(onnx::RuntimeBuilderFactory::Create());
    if (builder->LoadModel("model.onnx") != RC_SUCCESS) return 1;
    onnx::RuntimeBuilder::Resources resources;
    resources.engines = engines;
    resources.engine_num = 1;
    if (builder->SetResources(resources) != RC_SUCCESS || builder->Preprocess() != RC_SUCCESS) return 1;
    std::unique_ptr<Runtime> runtime(builder->CreateRuntime());

    Tensor* input = runtime->GetInputTensor(0);
    const std::vector<int64_t> dims = {{{dims}}};
    input->GetShape()->Reshape(dims);
    TensorShape given = *input->GetShape();
    given.SetDataType(DATATYPE_FLOAT32);
    given.SetDataFormat(DATAFORMAT_NDARRAY);
    std::vector<float> x(given.CalcElementsExcludingPadding());  // your image
    if (input->ConvertFromHost(x.data(), given) != RC_SUCCESS || runtime->Run() != RC_SUCCESS) return 1;

    Tensor* output = runtime->GetOutputTensor(0);
    TensorShape wanted = *output->GetShape();
    wanted.SetDataType(DATATYPE_{output_kind});
    wanted.SetDataFormat(DATAFORMAT_NDARRAY);
    std::vector<{cpp_type}> y(wanted.CalcElementsExcludingPadding());
    return output->ConvertToHost(y.data(), wanted) == RC_SUCCESS ? 0 : 1;
}}
"""

NOTES = {
    "x86": """
The x86 engine computes in float32 on AVX512 or FMA. Threads are OpenMP's: set OMP_NUM_THREADS, and build with
`-DPPLNN_USE_OPENMP=ON`.
""",
    "cuda": """
The table of what CUDA runs was read from PPLNN's source, not measured. The first run tries algorithms and writes the
fastest to `{algorithm_file}` (the tool's `--export-algo-file`); they belong to one kind of GPU and one input size.
""",
}


def guide(model: onnx.ModelProto, settings: Mapping[str, Any]) -> str:
    """README.md for this model and these settings."""
    device = settings["device"]
    own = {**settings[device], "kernel": str(settings[device].get("kernel_type", "")).upper()}
    x, y = model.graph.input[0], model.graph.output[0]
    mask = y.type.tensor_type.elem_type == onnx.TensorProto.INT64
    sizes = [_size(dim, default) for dim, default in zip(x.type.tensor_type.shape.dim, (1, 3, 512, 512), strict=False)]
    dims = ", ".join(map(str, sizes))
    return TEXT.format(
        device=device,
        build={"x86": "-DPPLNN_USE_X86_64=ON", "cuda": "-DPPLNN_USE_CUDA=ON"}[device],
        input=x.name,
        input_shape=_shape(x),
        output=y.name,
        output_type="int64" if mask else "float32",
        output_shape=_shape(y),
        narrow=", class numbers; cast them to uint8 where that is wanted" if mask else "",
        flags=_flags(device, own),
        shape="_".join(map(str, sizes)),
        python=PYTHON.format(engine=PYTHON_ENGINES[device].format(**own), dims=dims),
        cpp=CPP.format(
            device=device,
            mm_policy=own["mm_policy"],
            configure=_configure(device, own),
            dims=dims,
            output_kind="INT64" if mask else "FLOAT32",
            cpp_type="int64_t" if mask else "float",
        ),
        notes=NOTES[device].format(**own),
    )


def _flags(device: str, own: Mapping[str, Any]) -> str:
    if device == "x86":
        return ""
    file = own["algorithm_file"]
    return f" --kernel-type {own['kernel_type']} --export-algo-file {file} --import-algo-file {file}"


def _configure(device: str, own: Mapping[str, Any]) -> str:
    if device == "x86":
        return ""
    return f"    engine->Configure(cuda::ENGINE_CONF_SET_KERNEL_TYPE, DATATYPE_{own['kernel']});\n"


def _size(dim: onnx.TensorShapeProto.Dimension, default: int) -> int:
    return int(dim.dim_value) if dim.HasField("dim_value") else default


def _shape(info: onnx.ValueInfoProto) -> str:
    dims = info.type.tensor_type.shape.dim
    return f"({', '.join(str(d.dim_value) if d.HasField('dim_value') else d.dim_param or '?' for d in dims)})"
