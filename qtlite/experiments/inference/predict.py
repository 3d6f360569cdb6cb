"""Classify image files with an exported model, whatever its format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.inference.model_files import FORMATS
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import (
    FromPixels,
    load_compressed,
    load_json,
    load_safetensors,
)
from qtlite.export.onnx_file import open_onnx
from qtlite.export.safetensors_file import read_metadata


@dataclass(frozen=True)
class Classifier:
    """A model file, ready to use.

    Attributes:
        logits: uint8 pixels, shape (n, channels, height, width), to float32, shape (n, classes).
        image_shape: (channels, height, width).
        classes: what each column of the logits means.
        about: all that the file says of itself.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    about: dict[str, str]


def load_classifier(path: str | os.PathLike) -> Classifier:
    """Open a model that ``qtlite export`` wrote: ONNX in ONNX Runtime, the others in PyTorch.

    Raises:
        ValueError: if the file is damaged or not one of qtlite's.
        FileNotFoundError: if there is no such file.
        ImportError: if an .onnx file is given and onnxruntime is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model must be a file, got {path}")
    if path.name.endswith(".onnx"):
        session = open_onnx(path)
        about = session.get_modelmeta().custom_metadata_map

        def logits(pixels: np.ndarray) -> np.ndarray:
            return session.run(None, {"input": pixels})[0]

    else:
        network, about = _load_network(path)
        logits = _in_torch(network)
    try:
        shape, classes = (
            CATALOGUE[about["dataset"]].image_shape,
            tuple(json.loads(about["classes"])),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"model must say its dataset and classes, got {path} without: use `qtlite export`"
        ) from error
    if not all(isinstance(name, str) and name.isprintable() for name in classes):
        raise ValueError(f"classes must be printable, got {classes} in {path}")
    return Classifier(logits, shape, classes, about)


def _load_network(path: Path) -> tuple[nn.Module, dict[str, str]]:
    if path.suffix == ".pt2":
        raise ValueError(
            f"model must be a file that cannot run code, got {path}: reading a .pt2 file can; "
            "export the run as .onnx, .json or .safetensors instead"
        )
    if path.suffix == ".json":
        return load_json(path)
    if path.suffix != ".safetensors":
        ends = ", ".join(FORMATS.values())
        raise ValueError(f"model must be a file that ends in one of {ends}, got {path}")
    about = read_metadata(path)
    try:
        target = paper_cnn(about["dataset"], relu=json.loads(about["relu"]))
        mean, std = float(about["pixel_mean"]), float(about["pixel_std"])
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"model must say its dataset and pixels, got {path} without: use `qtlite export`"
        ) from error
    if path.name.endswith(FORMATS["compressed"]):
        target = load_compressed(path, target)[0].to_classical()
    else:
        load_safetensors(target, path)
    return FromPixels(target, mean, std).eval(), about


def _in_torch(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def logits(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels)).numpy()

    return logits


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax along the last axis.

    Example:
        >>> probabilities(np.array([[1.0, 1.0]])).tolist()
        [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def read_images(
    path: str | os.PathLike, shape: tuple[int, int, int], *, invert: bool = False
) -> np.ndarray:
    """Read one image from a .png or .jpg file, or one or more from a .npy file.

    Args:
        path: the file. An array is uint8, shape (height, width), (channels, height, width) or (n,
            channels, height, width); its channels may be left out if there is one.
        shape: (channels, height, width) that the model takes. Nothing is resized.
        invert: dark ink on light paper to the light ink on black that MNIST has.

    Returns:
        uint8, shape (n, channels, height, width).

    Raises:
        ValueError: if the file is no image, or one of another size, colour or type.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"image must be a file, got {path}")
    if path.suffix.lower() == ".npy":
        images = _read_array(path, shape)
    elif path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        images = _read_picture(path, shape)
    else:
        raise ValueError(f"image must be a .png, .jpg or .npy file, got {path}")
    return 255 - images if invert else images


def _read_array(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"image must be a whole .npy file of numbers, got {path}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"image must be a .npy file, got several arrays (.npz) in {path}")
    if array.dtype != np.uint8:
        raise ValueError(f"image must be uint8, 0 to 255, got {array.dtype} in {path}")
    if shape[0] == 1 and array.shape[-2:] == shape[1:] and array.ndim in (2, 3):
        array = array.reshape(-1, *shape)
    if array.shape == shape:
        array = array[None]
    if array.ndim != 4 or array.shape[1:] != shape or len(array) == 0:
        raise ValueError(f"image must have shape {shape}, got {array.shape} in {path}")
    return array


def _read_picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    mode, colours = ("L", "grey") if shape[0] == 1 else ("RGB", "RGB")
    try:
        with Image.open(path) as picture:
            found, (width, height) = picture.mode, picture.size
            fits = found == mode and (height, width) == shape[1:]
            # decoded only if it has the right size: a small file can declare 2^31 pixels
            pixels = np.asarray(picture, dtype=np.uint8) if fits else None
    # Pillow raises SyntaxError for damaged files and an error of its own for huge ones
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image must be a whole picture, got {path}: {error}") from error
    if pixels is None:
        raise ValueError(
            f"image must be {colours} (mode {mode}) of {shape[2]} x {shape[1]} pixels, "
            f"got mode {found} of {width} x {height} in {path}"
        )
    return (pixels[None, None] if mode == "L" else pixels.transpose(2, 0, 1)[None]).copy()


def prediction_table(names: list[str], logits: np.ndarray, classes: tuple[str, ...]) -> str:
    """One line an image: its name, the likeliest class, all probabilities in percent.

    Example:
        >>> print(prediction_table(["a.png"], np.array([[0.0, 1.1]]), ("cat", "dog")))
        image  class    cat   dog
        a.png    dog   25.0  75.0
    """
    given = probabilities(logits)
    first, second = (max(map(len, column)) for column in (["image", *names], ["class", *classes]))
    widths = [max(len(name), 5) for name in classes]
    cells = [f"{name:>{width}}" for name, width in zip(classes, widths, strict=True)]
    lines = [f"{'image':{first}}  {'class':>{second}}  {' '.join(cells)}"]
    for name, row in zip(names, given, strict=True):
        cells = [f"{100 * p:{width}.1f}" for p, width in zip(row, widths, strict=True)]
        lines.append(f"{name:{first}}  {classes[row.argmax()]:>{second}}  {' '.join(cells)}")
    return "\n".join(lines)
