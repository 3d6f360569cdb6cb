"""Eight-bit integers in place of the floating-point numbers of an exported network."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qtlite.export.new_file import new_file, require
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
    one for each activation, from its range over the examples.

    Args:
        source: what ``save_onnx`` wrote.
        path: where to write.
        examples: inputs that are like those to come, shape (n, ...); training images, not test
            images.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if there are no examples, or the source is not a file of ``save_onnx``'s.
        FileExistsError: if the file exists and ``overwrite`` is off.
        ImportError: if onnx or onnxruntime is missing.
    """
    if len(examples) == 0:
        raise ValueError("examples must hold at least one input, got none")
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    metadata = open_onnx(source).get_modelmeta().custom_metadata_map
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # ONNX Runtime advises on the root logger
    try:
        with new_file(path, overwrite) as unfinished, tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(os.fspath(source), os.fspath(prepared), skip_symbolic_shape=True)
            quantize_static(
                os.fspath(prepared),
                os.fspath(unfinished),
                _Examples(examples),
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
            open_onnx(unfinished).run(None, {"input": examples[:1]})
    finally:
        root.setLevel(level)
    return Path(path)


class _Examples:
    """What ONNX Runtime asks for its calibration: one batch after another, then None."""

    def __init__(self, examples: np.ndarray):
        self._batches: Iterator[np.ndarray] = iter(
            np.array_split(examples, -(-len(examples) // _BATCH))
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch}
