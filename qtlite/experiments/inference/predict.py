"""Classify image files with an exported model, whatever its format."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import pandas as pd
from torch import nn

from qtlite.experiments.data.catalogue import entry_of
from qtlite.experiments.data.images import read_array, read_picture
from qtlite.experiments.inference.tiny import ALL_FORMATS
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import format_of
from qtlite.export.checks import reading
from qtlite.export.schema import check_content, in_one_line

BATCH = 100  # images in memory at a time


class About(TypedDict):
    """What every model file must say of itself."""

    dataset: str
    classes: str


class Structure(About):
    """What a file that holds only tensors must say as well."""

    relu: Literal["true", "false"]
    pixel_mean: str
    pixel_std: str


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
        ValueError: if the file is damaged, not one of qtlite's, or in a format that can run code.
        FileNotFoundError: if there is no such file.
        ImportError: if an .onnx file is given and onnx or onnxruntime is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model must be a file, got {path}")
    kind = format_of(path, ALL_FORMATS)
    if kind.read is None:
        readable = ", ".join(other.ending for other in ALL_FORMATS.values() if other.read)
        raise ValueError(
            f"model must be a file that cannot run code, got {path}: reading a {kind.ending} file "
            f"can; export the run again as one of {readable}"
        )

    def structure(about: Mapping[str, str]) -> nn.Module:
        about = check_content(dict(about), Structure, "a model's dataset and pixels", path)
        with reading(path, "name its dataset", "model"):
            return paper_cnn(about["dataset"], relu=about["relu"] == "true")

    run, about = kind.read(path, structure)
    check_content(about, About, "a model's dataset and classes, as `qtlite export` writes", path)
    with reading(path, "name its classes", "model"):
        classes = check_content(json.loads(about["classes"]), tuple[str, ...], "names", path)
    for text in (*classes, *about, *about.values()):
        if not text.isprintable():
            raise ValueError(f"model must hold printable text, got {text!a} in {path}")
    with reading(path, "name its dataset", "model"):
        shape = entry_of(about["dataset"]).image_shape

    def logits(pixels: np.ndarray) -> np.ndarray:
        with reading(path, "classify images of its dataset", "model"):
            batches = np.array_split(pixels, -(-len(pixels) // BATCH))
            found = np.concatenate([run(batch) for batch in batches])
            if found.shape != (len(pixels), len(classes)):
                raise ValueError(f"{len(classes)} classes and outputs of shape {found.shape}")
            if not np.isfinite(found).all():
                raise ValueError("NaN or infinite logits")
        return found

    logits(np.zeros((1, *shape), np.uint8))  # a file that fails later would blame the images
    return Classifier(logits, shape, classes, about)


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
        path: the file. A picture is turned as its EXIF orientation says. An array is uint8, shape
            (height, width), (channels, height, width) or (n, channels, height, width); its channels
            may be left out if there is one.
        shape: (channels, height, width) that the model takes. Nothing is resized.
        invert: dark ink on light paper to the light ink on black that MNIST has.

    Returns:
        uint8, shape (n, channels, height, width).

    Raises:
        ValueError: if the file is no image, or one of another size, colour or type, or ``shape`` is
            of no image.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"shape must be (1 or 3, height, width), got {shape}")
    if not path.is_file():
        raise FileNotFoundError(f"image must be a file, got {path}")
    if path.suffix.lower() == ".npy":
        images = _read_array(path, shape)
    elif path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        images = read_picture(path, shape)[None].copy()
    else:
        raise ValueError(f"image must be a .png, .jpg or .npy file, got {path}")
    return 255 - images if invert else images


def _read_array(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    with reading(path, "be a whole .npy file of numbers", "image"):
        array = read_array(path.read_bytes())
    if array.dtype != np.uint8:
        raise ValueError(f"image must be uint8, 0 to 255, got {array.dtype} in {path}")
    if shape[0] == 1 and array.shape[-2:] == shape[1:] and array.ndim in (2, 3):
        array = array.reshape(-1, *shape)
    if array.shape == shape:
        array = array[None]
    if array.ndim != 4 or array.shape[1:] != shape or len(array) == 0:
        raise ValueError(f"image must have shape {shape}, got {array.shape} in {path}")
    return array.copy()


def prediction_table(names: list[str], logits: np.ndarray, classes: tuple[str, ...]) -> str:
    """One line an image: its name, the likeliest class, all probabilities in percent.

    Example:
        >>> print(prediction_table(["a.png"], np.array([[0.0, 1.1]]), ("cat", "dog")))
        image class  cat  dog
        a.png   dog 25.0 75.0
    """
    names = [in_one_line(ValueError(name)) for name in names]
    answers = [classes[place] for place in logits.argmax(axis=1)]
    percent = pd.DataFrame(100 * probabilities(logits), columns=classes)
    table = pd.concat([pd.DataFrame({"image": names, "class": answers}), percent], axis=1)
    return table.to_string(index=False, float_format="{:.1f}".format)
