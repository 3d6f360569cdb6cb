"""ONNX: the network as a graph of standard operations, which many runtimes and browsers run."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from qtlite.export.new_file import check_metadata, check_outputs, new_file, one_output, require
from qtlite.export.seal import OPEN_SEAL, check_seal, seal_file
from qtlite.quantum_train import check_plain

OPSET = 18  # the version of ONNX's operations that PyTorch's exporter writes without conversion


def save_onnx(
    network: nn.Module,
    example: Tensor,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network as an .onnx file (opset 18), read it again and compare outputs.

    The file's input is called ``input`` and its output ``output``; the first axis of both, the
    batch, may have any length. The network is written as it is in evaluation mode.

    Args:
        network: one tensor to one tensor; ``FromPixels`` to have the preprocessing in the file.
        example: inputs to trace with and to check with, shape (n, ...), n >= 2.
        path: where to write.
        metadata: strings to keep in the file's ``metadata_props``.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the network or the example does not fit, or has an operation ONNX lacks.
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
    check_plain(network)
    check_metadata(metadata)
    require("onnx", "onnxscript", "onnxruntime")
    network = copy.deepcopy(network).eval()
    expected = one_output(network, example)
    with new_file(path, overwrite) as unfinished:
        program = _trace(network, example)
        for node in program.model.graph:
            node.metadata_props.clear()  # where in our code each came from: not the reader's
        program.model.metadata_props.update({**(metadata or {}), "seal": OPEN_SEAL})
        program.save(unfinished)
        seal_file(unfinished)
        session = open_onnx(unfinished)
        for n in (len(example), 1):
            (found,) = session.run(None, {"input": example[:n].numpy()})
            check_outputs(expected[:n], torch.from_numpy(found))
    return Path(path)


def _trace(network: nn.Module, example: Tensor) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # about PyTorch's own insides, and progress on stdout
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except Exception as error:  # the exporter has many, without a common base
            raise ValueError(
                f"network must have only operations that ONNX has, got {type(network).__name__}: "
                f"{str(error).splitlines()[0]}"
            ) from error


def open_onnx(path: str | os.PathLike):
    """Open an .onnx file of qtlite's in ONNX Runtime, on one thread of the CPU.

    Returns:
        An ``onnxruntime.InferenceSession``.

    Raises:
        ValueError: if the file is damaged or not one of qtlite's.
        FileNotFoundError: if there is no such file.
        ImportError: if onnxruntime is missing.
    """
    require("onnxruntime")
    import onnxruntime

    check_seal(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # networks this small wait for threads more than they gain
    try:
        return onnxruntime.InferenceSession(
            Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's have no common base but this
        raise ValueError(f"path must be an ONNX file, got {path}: {error}") from error
