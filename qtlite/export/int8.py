"""Eight-bit integers in place of the floating-point numbers of an exported network."""

import logging
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from qtlite.export.atomic import atomic_write
from qtlite.export.checks import reading, require
from qtlite.export.onnx_file import open_onnx
from qtlite.export.seal import OPEN_SEAL, seal_file

_BATCH = 100


def quantise_onnx(
    source: str | os.PathLike,
    path: str | os.PathLike,
    examples: np.ndarray,
    *,
    overwrite: bool = False,
) -> Path:
    """Write an .onnx file of qtlite's with weights and activations as int8.

    ONNX Runtime's static quantisation: one scale for each output channel of a weight tensor, and
    one for each activation, from its range over the examples. Outputs differ from the source's:
    ``same_classes`` counts how many predictions stay.

    Args:
        source: what ``save_onnx`` wrote.
        path: where to write.
        examples: inputs like those to come, shape (n, ...); training images, not test images.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: if there are no examples, the source does not take them, or ``open_onnx`` does
            not read it.
        FileExistsError: if the file exists and ``overwrite`` is off.
        ImportError: if onnx or onnxruntime is missing.
    """
    if len(examples) == 0:
        raise ValueError("examples must hold at least one input, got none")
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    session = open_onnx(source)
    metadata = session.get_modelmeta().custom_metadata_map
    with reading(source, f"take examples of type {examples.dtype}", "source"):
        session.run(None, {"input": examples[:1]})
    batches = iter([{"input": batch} for batch in _batches(examples)])
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # ONNX Runtime advises on the root logger
    try:
        with atomic_write(path, overwrite) as unfinished, tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(os.fspath(source), os.fspath(prepared), skip_symbolic_shape=True)
            quantize_static(
                os.fspath(prepared),
                os.fspath(unfinished),
                SimpleNamespace(get_next=lambda: next(batches, None)),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
            model = onnx.load(unfinished)
            onnx.helper.set_model_props(
                model, {**metadata, "quantisation": "int8", "seal": OPEN_SEAL}
            )
            onnx.save(model, unfinished)
            seal_file(unfinished)
            same_classes(source, unfinished, examples[:1])
    finally:
        root.setLevel(level)
    return Path(path)


def same_classes(
    first: str | os.PathLike, second: str | os.PathLike, examples: np.ndarray
) -> tuple[int, int]:
    """Return for how many inputs two .onnx files predict the same class, and of how many.

    Raises:
        ValueError: if ``open_onnx`` does not read a file, or the file takes other inputs.
    """
    classes = []
    for path in (first, second):
        session = open_onnx(path)
        with reading(path, "take the examples"):
            found = [session.run(None, {"input": batch})[0] for batch in _batches(examples)]
        classes.append(np.concatenate(found).argmax(-1))
    return int((classes[0] == classes[1]).sum()), len(examples)


def _batches(examples: np.ndarray) -> list[np.ndarray]:
    return np.array_split(examples, -(-len(examples) // _BATCH))
