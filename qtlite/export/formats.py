"""The formats that a trained image classifier can be written in: one entry each.

Adding a format is adding an entry to ``FORMATS``: a name, the end of a file's name, a writer, and a
reader unless reading such a file could run code.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qtlite.export.checks import TOLERANCE, reading
from qtlite.export.compressed import load_compressed, save_compressed
from qtlite.export.from_pixels import FromPixels
from qtlite.export.int8 import quantise_onnx, same_classes
from qtlite.export.json_file import load_json, save_json
from qtlite.export.onnx_file import open_onnx, save_onnx
from qtlite.export.safetensors_file import load_safetensors, read_metadata, save_safetensors
from qtlite.export.torch_export_file import save_torch_export
from qtlite.quantum_train import QuantumTrain

Metadata = Mapping[str, str]
Logits = Callable[[np.ndarray], np.ndarray]  # uint8 pixels, (n, channels, height, width), to logits


@dataclass(frozen=True)
class Trained:
    """A trained image classifier and what the formats need to write it.

    Attributes:
        network: plain, with its preprocessing.
        example: uint8 pixels, shape (n, channels, height, width), n >= 2.
        model: what generates the network's weights; None for one that was trained directly.
        training_images: gives uint8 pixels, as ``example``, that int8's scales are taken from.
    """

    network: FromPixels
    example: Tensor
    model: QuantumTrain | None
    training_images: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: on the command line.
        ending: of a file's name.
        write: writes a file, checks it, and returns what was checked, as a sentence.
        read: reads a file, given a function from metadata to a network of its structure (for
            formats that hold only tensors); None if reading such a file could run code.
        needs_model: whether it stores what generates the weights.
    """

    name: str
    ending: str
    write: Callable[[Trained, Path, Metadata], str]
    read: Callable[[Path, Callable[[Metadata], nn.Module]], tuple[Logits, dict[str, str]]] | None
    needs_model: bool = False


def format_of(path: Path, formats: Mapping[str, Format] | None = None) -> Format:
    """Find the format of a file by the end of its name, among ``FORMATS`` if none are given.

    Raises:
        ValueError: if no format has it.

    Example:
        >>> format_of(Path("net.int8.onnx")).name, format_of(Path("net.onnx")).name
        ('int8', 'onnx')
    """
    formats = FORMATS if formats is None else formats
    found = [kind for kind in formats.values() if path.name.endswith(kind.ending)]
    if not found:
        endings = ", ".join(kind.ending for kind in formats.values())
        raise ValueError(f"model must be a file that ends in one of {endings}, got {path}")
    return max(found, key=lambda kind: len(kind.ending))


def _write_safetensors(trained: Trained, path: Path, about: Metadata) -> str:
    save_safetensors(trained.network.network, path, about, overwrite=True)
    return "read again: the same tensors"


def _read_safetensors(path: Path, structure: Callable) -> tuple[Logits, dict[str, str]]:
    about = read_metadata(path)
    target = structure(about)
    load_safetensors(target, path)
    return _in_torch(_normalised(target, about, path)), about


def _write_compressed(trained: Trained, path: Path, about: Metadata) -> str:
    save_compressed(trained.model, path, about, overwrite=True)
    return "read again: it generates the same weights"


def _read_compressed(path: Path, structure: Callable) -> tuple[Logits, dict[str, str]]:
    model, about = load_compressed(path, structure(read_metadata(path)))
    return _in_torch(_normalised(model.to_classical(), about, path)), about


def _write_onnx(trained: Trained, path: Path, about: Metadata) -> str:
    save_onnx(trained.network, trained.example, path, about, overwrite=True)
    return f"run in ONNX Runtime: the same outputs within {TOLERANCE} of the largest"


def _read_onnx(path: Path, _: Callable) -> tuple[Logits, dict[str, str]]:
    session = open_onnx(path)
    about = session.get_modelmeta().custom_metadata_map
    return lambda pixels: session.run(None, {"input": pixels})[0], about


def _write_int8(trained: Trained, path: Path, about: Metadata) -> str:
    images = trained.training_images()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        _write_onnx(trained, whole, about)
        quantise_onnx(whole, path, images, overwrite=True)
        same, n = same_classes(whole, path, images)
    return f"run in ONNX Runtime: the same class for {same} of {n} training images"


def _write_pt2(trained: Trained, path: Path, about: Metadata) -> str:
    save_torch_export(trained.network, trained.example, path, about, overwrite=True)
    return f"read by PyTorch: the same outputs within {TOLERANCE} of the largest"


def _write_json(trained: Trained, path: Path, about: Metadata) -> str:
    save_json(trained.network, path, about, overwrite=True)
    return "read again: the same numbers"


def _read_json(path: Path, _: Callable) -> tuple[Logits, dict[str, str]]:
    network, about = load_json(path)
    return _in_torch(network), about


def _normalised(network: nn.Module, about: Metadata, path: Path) -> FromPixels:
    with reading(path, "say the mean and standard deviation of pixels", "model"):
        mean, std = float(about["pixel_mean"]), float(about["pixel_std"])
        return FromPixels(network.eval(), mean, std)


def _in_torch(network: nn.Module) -> Logits:
    return torch.no_grad()(lambda pixels: network(torch.from_numpy(pixels)).numpy())


FORMATS = {
    kind.name: kind
    for kind in (
        Format("safetensors", ".safetensors", _write_safetensors, _read_safetensors),
        Format("onnx", ".onnx", _write_onnx, _read_onnx),
        Format("pt2", ".pt2", _write_pt2, None),
        Format("json", ".json", _write_json, _read_json),
        Format("compressed", ".angles.safetensors", _write_compressed, _read_compressed, True),
        Format("int8", ".int8.onnx", _write_int8, _read_onnx),
    )
}
