"""onnxsim in a process of its own, since its native code may end the process or take all memory.

`python -P onnxsim_child.py IN OUT ROUNDS BYTES`: simplify the model in the file IN until onnxsim finds no more, at most
ROUNDS times, in BYTES of address space, and write it to OUT.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

import onnx
import onnx.numpy_helper

RAISED = 3  # exit status: the last line on stderr says what onnxsim raised


def simplified(model: onnx.ModelProto, rounds: int) -> onnx.ModelProto:
    """Apply onnxsim until it finds no more. Weights must be inputs already. The argument stays as it is."""
    sys.modules["torch"] = None  # type: ignore[assignment] # parts of onnxsim import it: seconds and 180 MB for nothing
    import onnxsim

    known = inspect.signature(onnxsim.simplify).parameters
    wanted: dict[str, Any] = {"check_n": 0, "tensor_size_threshold": "64KB", "certify": False}
    options = {name: value for name, value in wanted.items() if name in known}
    for _ in range(rounds):
        result, _ok = onnxsim.simplify(model, **options)
        if canonical(result) == canonical(model):
            break
        model = result
    return model


def canonical(model: onnx.ModelProto) -> dict[str, bytes]:
    """First output -> what the node computes, regardless of order of attributes and names of nodes and constants."""
    constants = {t.name: _value_key(t) for t in model.graph.initializer}
    return {node.output[0]: _node_key(node, constants) for node in model.graph.node}


def _value_key(tensor: onnx.TensorProto) -> str:
    """Constants of equal type, shape and value are one, whatever their name and encoding."""
    digest = hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).hexdigest()
    return f"constant {tensor.data_type} {list(tensor.dims)} {digest}"


def _node_key(node: onnx.NodeProto, constants: dict[str, str]) -> bytes:
    bare = onnx.NodeProto(op_type=node.op_type, domain="" if node.domain == "ai.onnx" else node.domain)
    inputs = [constants.get(name, name) for name in node.input]
    while inputs and not inputs[-1]:
        inputs.pop()
    bare.input.extend(inputs)
    bare.output.extend(node.output)
    bare.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
    for attribute in bare.attribute:
        attribute.doc_string = ""
    return bytes(bare.SerializeToString(deterministic=True))


def _limit_memory(size: int) -> None:
    """Where the system can; elsewhere the caller's time limit is the only one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    """See the module."""
    source, out, rounds, size = sys.argv[1:]
    _limit_memory(int(size))
    try:
        model = simplified(onnx.load_from_string(Path(source).read_bytes()), int(rounds))
    except Exception as error:  # onnxsim raises bare RuntimeErrors, and whatever its C++ core throws
        lines = str(error).splitlines() or [type(error).__name__]
        print(lines[0][:200], file=sys.stderr)  # noqa: T201 - what the caller reads
        sys.exit(RAISED)
    Path(out).write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
