"""ONNX: the network as a graph of standard operations, which many runtimes and browsers run."""

import contextlib
import copy
import io
import os
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qtlite.export.atomic import atomic_write
from qtlite.export.checks import check_cost, check_outputs, one_output, prepare, reading, require
from qtlite.export.seal import check_seal, seal_file

OPSET = 18  # the version of ONNX's operations that PyTorch's exporter writes without conversion

# What open_onnx runs: none of these reads files, loops, or makes tensors of unpredictable sizes.
OPERATIONS = {
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv",
    "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Flatten", "Gather", "Gelu", "Gemm",
    "GlobalAveragePool", "Identity", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul",
    "Neg", "Pow", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Shape", "Sigmoid", "Slice",
    "Softmax", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip


def save_onnx(
    network: nn.Module,
    example: Tensor,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network as an .onnx file (opset 18), run it in ONNX Runtime and compare outputs.

    The file's input is called ``input`` and its output ``output``; the first axis of both, the
    batch, may have any length. The network is written as it is in evaluation mode.

    Args:
        network: one tensor to one tensor; ``FromPixels`` to have the preprocessing in the file.
        example: inputs to trace with and to check with, shape (n, ...), n >= 2.
        path, metadata, overwrite: as for ``save_safetensors``.

    Raises:
        ValueError: if the network or the example does not fit, or has an operation or number type
            that ONNX Runtime lacks.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the network's outputs; it is not kept.
        ImportError: if onnx, onnxscript or onnxruntime is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_onnx(nn.Linear(3, 2), torch.randn(2, 3), Path(folder) / "a.onnx")
        ...     open_onnx(path).get_inputs()[0].shape
        ['batch', 3]
    """
    header = prepare(network, metadata, "onnx", "onnxscript", "onnxruntime")
    for tensor in (example, *network.parameters()):
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"network and example must be float32 or float64, got {tensor.dtype}: call "
                ".float() on both"
            )
    network, example = copy.deepcopy(network).cpu().eval(), example.detach().cpu()
    expected = one_output(network, example)
    with atomic_write(path, overwrite) as unfinished:
        program = _trace(network, example)
        for node in program.model.graph:
            node.metadata_props.clear()  # stack traces with folder names of this machine
        program.model.metadata_props.update(header)
        program.save(unfinished)
        seal_file(unfinished)
        with reading(unfinished, "hold operations that ONNX Runtime has"):
            session = _start(unfinished.read_bytes())
            inputs = [{"input": example[:n].numpy()} for n in (len(example), 1)]
            outputs = [torch.from_numpy(session.run(None, given)[0]) for given in inputs]
        for found in outputs:
            check_outputs(expected[: len(found)], found)
    return Path(path)


def _trace(network: nn.Module, example: Tensor) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # about PyTorch's own insides, and progress on stdout
        warnings.simplefilter("ignore")
        try:
            names = {"input_names": ["input"], "output_names": ["output"]}
            options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "verbose": False}
            return torch.onnx.export(
                network, (example,), dynamo=True, opset_version=OPSET, **names, **options
            )
        except Exception as error:  # the exporter has many, without a common base
            raise ValueError(
                f"network must have only operations that ONNX has, got {type(network).__name__}: "
                f"{str(error).splitlines()[0]}"
            ) from error


def open_onnx(path: str | os.PathLike) -> Any:
    """Open an .onnx file of a feed-forward network in ONNX Runtime, on one thread of the CPU.

    The graph is checked first: it must have one input, only ``OPERATIONS``, all its numbers in the
    file itself, and a bounded cost for each image.

    Returns:
        An ``onnxruntime.InferenceSession``.

    Raises:
        ValueError: if the file is damaged, not one of qtlite's, or its graph is refused.
        FileNotFoundError: if there is no such file.
        ImportError: if onnx or onnxruntime is missing.
    """
    require("onnx", "onnxruntime")
    check_seal(path)
    content = Path(path).read_bytes()
    with reading(path, "be an ONNX file of a feed-forward network"):
        _check_graph(content)
        return _start(content)


def _start(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; the log would repeat a file's strings
    options.intra_op_num_threads = 1  # networks this small wait for threads more than they gain
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _check_graph(content: bytes) -> None:
    """Refuse a graph that could read other files, loop, or take much memory or time."""
    import onnx

    model = onnx.load_model_from_string(content)
    graph = model.graph
    if model.functions or graph.sparse_initializer or len(graph.input) != 1:
        raise ValueError("one input, no functions and no sparse tensors are allowed")
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"operation {node.op_type!r} is not allowed; onnxruntime runs a file that you trust"
            )
        tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        if any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") for a in node.attribute):
            raise ValueError(f"operation {node.op_type!r} has a graph inside")
    for tensor in tensors:
        if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
            raise ValueError(f"tensor {tensor.name!r} is in another file")
        if tensor.data_type == onnx.TensorProto.STRING or len(tensor.dims) > 8:
            raise ValueError(f"tensor {tensor.name!r} holds no numbers")
        if np.isnan(onnx.numpy_helper.to_array(tensor).astype(np.float64)).any():
            raise ValueError(f"tensor {tensor.name!r} has NaN")
    # sizes for one image, from the operations alone and not from what the file says of them
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        known = kind.HasField("shape") and all(n.HasField("dim_value") for n in kind.shape.dim)
        shapes[value.name] = tuple(n.dim_value for n in kind.shape.dim) if known else (-1,)
    if unknown := [name for name, shape in shapes.items() if min(shape, default=0) < 0]:
        raise ValueError(f"the size of {unknown[0]!r} depends on more than the graph")
    n_numbers = n_products = 0
    for node in graph.node:
        window = next((a.ints for a in node.attribute if a.name == "kernel_shape"), ())
        weight = shapes[node.input[1]] if node.op_type in ("Conv", "Gemm", "MatMul") else ()
        n_terms = prod(weight[1:]) if node.op_type == "Conv" else max((prod(window), *weight[-2:]))
        for n_outputs in (prod(shapes[name]) for name in node.output if name):
            n_numbers += n_outputs
            n_products += n_outputs * n_terms
    check_cost(n_numbers, n_products)
