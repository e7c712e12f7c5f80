"""README.md of a PPLNN bundle: how to run the model from the shell, from Python and from C++."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

TEXT = """\
# This model in PPLNN

`model.onnx` (opset 11) is for the {device} engine of PPLNN; `pplnn.json` holds the settings of that engine.
PPLNN is OpenPPL's ppl.nn, which is built from source (https://github.com/openppl-public/ppl.nn):

    ./build.sh {build} -DPPLNN_ENABLE_PYTHON_API=ON

Do not install the package pyppl from a package index: it is another project.

{tensors}

The bundle's `segc.json` gives the normalisation of images (`preprocessing`). In a bundle of several segments it also
gives their order and the tensors they exchange (`segments`).

## Shell

    {shell}

## Python

```python
{python}```

## C++

```cpp
{cpp}```
{notes}"""

PYTHON = """\
{imports}import numpy
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

inputs = {{  # your values
{inputs}}}
for i in range(runtime.GetInputCount()):
    tensor = runtime.GetInputTensor(i)
    check(tensor.ConvertFromHost(inputs[tensor.GetName()]))
check(runtime.Run())
for i in range(runtime.GetOutputCount()):
    tensor = runtime.GetOutputTensor(i)
    y = numpy.array(tensor.ConvertToHost())
    print(tensor.GetName(), y.shape, y.dtype)
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
if os.path.exists("{algorithm_file}"):
    check(engine.Configure(nn.cuda.ENGINE_CONF_IMPORT_ALGORITHMS, "{algorithm_file}"))
else:  # the first run selects algorithms and saves them
    check(engine.Configure(nn.cuda.ENGINE_CONF_EXPORT_ALGORITHMS, "{algorithm_file}"))
""",
}

CPP = """\
#include "ppl/nn/engines/{device}/engine_factory.h"
#include "ppl/nn/models/onnx/runtime_builder_factory.h"

#include <cstdint>
{includes}#include <memory>
#include <vector>

using namespace ppl::nn;
using namespace ppl::common;

template <typename T>
bool set_input(Tensor* tensor, datatype_t type, const std::vector<int64_t>& dims, const std::vector<T>& values) {{
    tensor->GetShape()->Reshape(dims);
    TensorShape shape = *tensor->GetShape();
    shape.SetDataType(type);
    shape.SetDataFormat(DATAFORMAT_NDARRAY);
    return tensor->ConvertFromHost(values.data(), shape) == RC_SUCCESS;
}}

template <typename T>
bool get_output(const Tensor* tensor, datatype_t type, std::vector<T>* values) {{
    TensorShape shape = *tensor->GetShape();
    shape.SetDataType(type);
    shape.SetDataFormat(DATAFORMAT_NDARRAY);
    values->resize(shape.CalcElementsExcludingPadding());
    return tensor->ConvertToHost(values->data(), shape) == RC_SUCCESS;
}}
{helpers}
int main() {{
    {device}::EngineOptions options;
    options.mm_policy = {device}::{mm_policy};
    std::unique_ptr<Engine> engine({device}::EngineFactory::Create(options));
    if (!engine) return 1;
{configure}    Engine* engines[] = {{engine.get()}};

    std::unique_ptr<onnx::RuntimeBuilder> builder(onnx::RuntimeBuilderFactory::Create());
    if (builder->LoadModel("model.onnx") != RC_SUCCESS) return 1;
    onnx::RuntimeBuilder::Resources resources;
    resources.engines = engines;
    resources.engine_num = 1;
    if (builder->SetResources(resources) != RC_SUCCESS || builder->Preprocess() != RC_SUCCESS) return 1;
    std::unique_ptr<Runtime> runtime(builder->CreateRuntime());
    if (!runtime) return 1;

{set_inputs}    if (runtime->Run() != RC_SUCCESS) return 1;
{get_outputs}    return 0;
}}
"""

CPP_SET_INPUT = """\
    std::vector<{kind.cpp}> x{index}({count});  // your values
    if (!set_input(runtime->GetTensor({name}), DATATYPE_{kind.ppl}, {{{dims}}}, x{index})) return 1;
"""

CPP_GET_OUTPUT = """\
    std::vector<{kind.cpp}> y{index};
    if (!get_output(runtime->GetTensor({name}), DATATYPE_{kind.ppl}, &y{index})) return 1;
"""

PYTHON_IMPORTS = {"x86": "", "cuda": "import os\n\n"}
CPP_INCLUDES = {"x86": "", "cuda": "#include <fstream>\n#include <iterator>\n#include <string>\n"}
CPP_HELPERS = {
    "x86": "",
    "cuda": """
static void save(const char* data, uint64_t bytes, void* file) {{
    std::ofstream(static_cast<const char*>(file), std::ios::binary).write(data, bytes);
}}
""",
}

CPP_CONFIGURE = {
    "x86": "",
    "cuda": """\
    engine->Configure(cuda::ENGINE_CONF_SET_KERNEL_TYPE, DATATYPE_{kernel});
    static char algorithms[] = "{algorithm_file}";
    std::ifstream kept(algorithms, std::ios::binary);
    if (kept) {{
        const std::string text((std::istreambuf_iterator<char>(kept)), std::istreambuf_iterator<char>());
        const uint64_t bytes = text.size();
        const uint32_t import = cuda::ENGINE_CONF_IMPORT_ALGORITHMS_FROM_BUFFER;
        if (engine->Configure(import, text.data(), bytes) != RC_SUCCESS) return 1;
    }} else {{  // the first run selects algorithms and saves them
        engine->Configure(cuda::ENGINE_CONF_SET_EXPORT_ALGORITHMS_HANDLER, save, algorithms);
    }}
""",
}

SHELL = {
    "x86": "pplnn --use-x86 --onnx-model model.onnx --mm-policy perf --in-shapes {shapes} --save-outputs",
    "cuda": "pplnn --use-cuda --onnx-model model.onnx --mm-policy perf --in-shapes {shapes} --save-outputs \\\n"
    "        --kernel-type {kernel_type} --export-algo-file {algorithm_file}",
}

NOTES = {
    "x86": """
The x86 engine computes in float32 with AVX512 or FMA. For several threads build PPLNN with `-DPPLNN_USE_OPENMP=ON` and
set OMP_NUM_THREADS.
""",
    "cuda": """
What the CUDA engine supports was read from PPLNN's source, not measured. The first run tries algorithms and writes the
fastest to `{algorithm_file}`, which is valid for one GPU model and one input size. Later runs read the file: with the
tool `pplnn`, pass `--import-algo-file` instead of `--export-algo-file`. PPLNN refuses an empty file.
""",
}


@dataclass(frozen=True)
class Kind:
    """The name of a tensor type in NumPy, PPLNN and C++."""

    numpy: str
    ppl: str
    cpp: str


KINDS: dict[int, Kind] = {
    onnx.TensorProto.FLOAT: Kind("float32", "FLOAT32", "float"),
    onnx.TensorProto.INT64: Kind("int64", "INT64", "int64_t"),
}
EXAMPLE_IMAGE = (1, 3, 512, 512)  # the sizes that examples use where those of a map are symbolic


def readme(model: onnx.ModelProto, settings: Mapping[str, Any]) -> str:
    """The text of README.md for this model and the content of pplnn.json. Inputs and outputs are float32 or int64."""
    device = settings["device"]
    own = {**settings[device], "kernel": str(settings[device].get("kernel_type", "")).upper()}
    inputs, outputs = model.graph.input, model.graph.output
    dims = [", ".join(map(str, _sizes(info))) for info in inputs]
    arrays = [
        f"    {json.dumps(x.name)}: numpy.zeros([{sizes}], numpy.{_kind(x).numpy}),\n"
        for x, sizes in zip(inputs, dims, strict=True)
    ]
    set_inputs = [
        CPP_SET_INPUT.format(
            index=index, kind=_kind(x), name=json.dumps(x.name), dims=sizes, count=sizes.replace(", ", " * ") or "1"
        )
        for index, (x, sizes) in enumerate(zip(inputs, dims, strict=True))
    ]
    get_outputs = [
        CPP_GET_OUTPUT.format(index=index, kind=_kind(y), name=json.dumps(y.name)) for index, y in enumerate(outputs)
    ]
    return TEXT.format(
        device=device,
        build={"x86": "-DPPLNN_USE_X86_64=ON", "cuda": "-DPPLNN_USE_CUDA=ON"}[device],
        tensors="\n".join([*(_list_item("input", x) for x in inputs), *(_list_item("output", y) for y in outputs)]),
        shell=SHELL[device].format(shapes=",".join("_".join(map(str, _sizes(x))) for x in inputs), **own),
        python=PYTHON.format(
            imports=PYTHON_IMPORTS[device], engine=PYTHON_ENGINES[device].format(**own), inputs="".join(arrays)
        ),
        cpp=CPP.format(
            device=device,
            mm_policy=own["mm_policy"],
            includes=CPP_INCLUDES[device],
            helpers=CPP_HELPERS[device].format(),
            configure=CPP_CONFIGURE[device].format(**own),
            set_inputs="".join(set_inputs),
            get_outputs="".join(get_outputs),
        ),
        notes=NOTES[device].format(**own),
    )


def _kind(info: onnx.ValueInfoProto) -> Kind:
    return KINDS[info.type.tensor_type.elem_type]


def _list_item(side: str, info: onnx.ValueInfoProto) -> str:
    dims = info.type.tensor_type.shape.dim
    shape = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
    return f"- {side} `{info.name}`: {_kind(info).numpy} ({shape})"


def _sizes(info: onnx.ValueInfoProto) -> list[int]:
    """The sizes of a tensor, with example sizes for the symbolic ones."""
    dims = info.type.tensor_type.shape.dim
    example = EXAMPLE_IMAGE if len(dims) == len(EXAMPLE_IMAGE) else (1,) * len(dims)
    return [int(d.dim_value) if d.HasField("dim_value") else size for d, size in zip(dims, example, strict=True)]
