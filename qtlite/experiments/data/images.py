"""Pictures and arrays from files of unknown origin, and datasets of own images.

What a file declares is checked before memory is taken for it.
"""

import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qtlite.experiments.data.loading import Dataset
from qtlite.export.checks import reading

MAX_BYTES = 2**31  # of all images of a dataset
MAX_CLASSES = MAX_SIDE = 999
ENDINGS = (".png", ".jpg", ".jpeg")
ONE_IN = 6  # images of a class are for testing, where there is no test part


def load_images(path: str | os.PathLike) -> Dataset:
    """Load own images, all of one size, as a dataset whose name depends on their content.

    A folder has a folder for each class with .png or .jpg files in it, or the folders ``train`` and
    ``test`` with such folders. An .npz file has the arrays ``train_images``, ``train_labels``,
    ``test_images`` and ``test_labels``, or ``images`` and ``labels``; and ``classes`` if they have
    names. Images are uint8 of shape (n, height, width) or (n, channels, height, width).

    Without a test part, one in six images of each class is for testing: those whose pixels have the
    smallest SHA-256, which no file name or order changes. Images of a folder are in the order of
    their file names, those of an array in its order.

    Args:
        path: of the folder or the file.

    Raises:
        ValueError: if it holds something else; one line says what and where.
        FileNotFoundError: if there is no such folder or file.

    Example:
        >>> import tempfile
        >>> images = np.arange(12 * 20 * 16, dtype=np.uint8).reshape(12, 20, 16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.npz"
        ...     np.savez(path, images=images, labels=np.arange(12) % 2, classes=["cat", "dog"])
        ...     mine = load_images(path)
        >>> mine.name[:17], mine.classes, tuple(mine.test_images.shape)
        ('images-2x1x20x16-', ('cat', 'dog'), (2, 1, 20, 16))
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"images must be a folder or an .npz file, got {path}")
    if path.suffix.lower() != ".npz":
        raise ValueError(f"images must be a folder or an .npz file, got {path}")
    return _read_npz(path)


def _read_folder(folder: Path) -> Dataset:
    names = [entry.name for entry in _entries(folder)]
    split = ("train", "test") if sorted(names) == ["test", "train"] else None
    parts = [folder / name for name in split] if split else [folder]
    found = [{entry.name: entry for entry in _entries(part)} for part in parts]
    classes = sorted(found[0])
    if sorted(found[-1]) != classes:
        differing = sorted(found[0].keys() ^ found[-1].keys())
        raise ValueError(f"images must have the same classes in {folder}'s parts, got {differing}")
    for entry in (entry for part in found for entry in part.values()):
        if not entry.is_dir():
            raise ValueError(f"images must be in a folder for each class, got the file {entry}")
    _check_classes(classes, folder)
    files = [sorted(_pictures(part, classes)) for part in found]
    shape = read_picture(Path(files[0][0][2])).shape
    _check_size(sum(map(len, files)), shape, folder)
    arrays: list[Any] = []
    for part in files:
        pictures = np.empty((len(part), *shape), np.uint8)
        for place, (_, _, file) in enumerate(part):
            pictures[place] = read_picture(Path(file), shape)
        arrays += [pictures, np.array([label for _, label, _ in part])]
    return _dataset(classes, *arrays, source=folder)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _pictures(part: dict[str, Path], classes: list[str]) -> Iterator[tuple[str, int, str]]:
    """Name, label and path of each picture."""
    for label, name in enumerate(classes):
        entries = _entries(part[name])
        for entry in entries:
            if entry.suffix.lower() not in ENDINGS or not entry.is_file():
                raise ValueError(f"images must be .png or .jpg files, got {entry}")
            yield entry.name, label, str(entry)
        if not entries:
            raise ValueError(f"images must be in each class's folder, got none in {part[name]}")


def _read_npz(path: Path) -> Dataset:
    with reading(path, "be a whole .npz file of arrays", "images"), zipfile.ZipFile(path) as file:
        if (size := sum(member.file_size for member in file.infolist())) > MAX_BYTES:
            raise ValueError(f"{size:,} bytes of more than {MAX_BYTES:,}")
        names = {member.removesuffix(".npy"): member for member in file.namelist()}
        arrays = {name: read_array(file.read(member)) for name, member in names.items()}
    parts = ["train_images", "train_labels", "test_images", "test_labels"]
    asked = ["images", "labels"] if "images" in arrays else parts
    if missing := [name for name in asked if name not in arrays]:
        raise ValueError(f"images must have the arrays {', '.join(missing)}, got {path} without")
    given = [arrays[name] for name in asked]
    for images, labels in zip(given[::2], given[1::2], strict=True):
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                "images must be uint8 of shape (n, height, width) or (n, channels, height, width), "
                f"got {images.dtype} of shape {images.shape} in {path}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must be {len(images)} whole numbers, one for each image, got "
                f"{labels.dtype} of shape {labels.shape} in {path}"
            )
    given[::2] = [images[:, None] if images.ndim == 3 else images for images in given[::2]]
    for images in given[::2]:
        if images.shape[1:] != given[0].shape[1:]:
            raise ValueError(
                f"images must all have one shape, got {images.shape[1:]} too in {path}"
            )
        _check_size(len(images), images.shape[1:], path)
    largest = max((int(labels.max()) for labels in given[1::2] if labels.size), default=0)
    names = arrays.get("classes", np.arange(min(largest, MAX_CLASSES) + 1)).ravel()
    classes = [str(name) for name in names[: MAX_CLASSES + 1]]
    _check_classes(classes, path)
    return _dataset(classes, *given, source=path)


def _check_classes(classes: Sequence[str], source: Path) -> None:
    n = len(set(classes))
    if not (2 <= n <= MAX_CLASSES and n == len(classes)):
        raise ValueError(
            f"images must have 2 to {MAX_CLASSES} different classes, got {n} in {source}"
        )
    if unprintable := [name for name in classes if not name.isprintable() or not name]:
        raise ValueError(f"classes must have printable names, got {unprintable[0]!a} in {source}")


def _check_size(n: int, shape: tuple[int, ...], source: Path) -> None:
    channels, *sides = shape
    if channels not in (1, 3) or not all(1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(
            f"images must have 1 or 3 channels and sides of 1 to {MAX_SIDE} pixels, got (channels, "
            f"height, width) = {tuple(shape)} in {source}"
        )
    if n * int(np.prod(shape)) > MAX_BYTES:
        raise ValueError(
            f"images must take at most {MAX_BYTES:,} bytes, got {n} of {shape} in {source}"
        )


def _dataset(
    classes: Sequence[str], images: np.ndarray, labels: np.ndarray, *test: np.ndarray, source: Path
) -> Dataset:
    """Split if there is no test part, check the labels, and name the dataset by its content."""
    parts = [images, labels.astype(np.int64), *test]
    if not test:
        test_part = _for_testing(images, labels)
        parts = [a[chosen] for chosen in (~test_part, test_part) for a in parts]
    parts[3] = parts[3].astype(np.int64)
    for what, found in (("training", parts[1]), ("test", parts[3])):
        seen, wanted = set(found.tolist()), set(range(len(classes)))
        if other := sorted(seen - wanted):
            raise ValueError(f"labels must be 0 to {len(classes) - 1}, got {other[0]} in {source}")
        if missing := [classes[label] for label in sorted(wanted - seen)]:
            raise ValueError(
                f"images must have a {what} image of each class, got none of {missing[0]!r} in "
                f"{source}"
            )
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in parts[0]) / parts[0].size
    values = np.arange(256) / 255
    mean = float(counts @ values)
    std = float(counts @ (values - mean) ** 2) ** 0.5
    if std < 1e-4:
        raise ValueError(f"images must differ, got pixels of one value in {source}")
    tensors = [torch.from_numpy(np.array(part)) for part in parts]
    digest = hashlib.sha256(json.dumps([list(classes), *(list(t.shape) for t in tensors)]).encode())
    for tensor in tensors:
        digest.update(tensor.numpy())
    shape = "x".join(map(str, (len(classes), *images.shape[1:])))
    name = f"images-{shape}-{mean:.4f}-{std:.4f}-{digest.hexdigest()[:16]}"
    return Dataset(name, tuple(classes), *tensors)


def _for_testing(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """True for one in six images of each class, rounded up but never the only one."""
    digests = np.array(
        [hashlib.sha256(np.ascontiguousarray(image)).hexdigest() for image in images]
    )
    chosen = np.zeros(len(images), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        n_test = -(-len(own) // ONE_IN) if len(own) > 1 else 0
        chosen[own[digests[own].argsort(kind="stable")[:n_test]]] = True
    return chosen


def read_array(content: bytes) -> np.ndarray:
    """Read an array from the bytes of an .npy file; never objects, which could run code.

    NumPy's own loader makes room for what the header says before it looks at what there is.

    Raises:
        ValueError: if the bytes are no whole array of numbers or text.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    versions = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    size, by_columns, kind = versions[version](stream)
    if min(size, default=1) < 0:
        raise ValueError(f"shape {size}")
    return np.frombuffer(stream.read(), kind).reshape(size, order="FC"[not by_columns])


def read_picture(path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode a picture only if it has the right size: a small file can declare 2^31 pixels.

    Args:
        path: of a .png or .jpg file; the picture is turned as its EXIF orientation says.
        shape: (channels, height, width) that it must have; if left out, grey or RGB, 999 x 999 at
            most.

    Returns:
        uint8, of this shape.

    Raises:
        ValueError: if it is no picture, or one of another size or colour.
    """
    from PIL import ImageOps

    n_channels, *sides = shape or (0, MAX_SIDE, MAX_SIDE)
    modes = {0: ("L", "RGB"), 1: ("L",), 3: ("RGB",)}[n_channels]
    with _opened(path) as picture, _opened(path) as unread:
        unread.verify()  # a PNG's checksums, which decoding passes over
        (width, height), fits = picture.size, picture.mode in modes
        if shape is None:
            fits &= max(width, height) <= MAX_SIDE
        elif fits := fits and sorted(sides) == sorted(picture.size):
            turned = picture.getexif().get(0x0112, 1) >= 5  # on its side
            width, height = (height, width) if turned else (width, height)
            fits = [height, width] == sides
        if fits:
            pixels = np.asarray(ImageOps.exif_transpose(picture), dtype=np.uint8)
    if not fits:
        colours = " or ".join({"L": "grey (mode L)", "RGB": "RGB (mode RGB)"}[m] for m in modes)
        raise ValueError(
            f"image must be {colours} of {'at most ' * (shape is None)}{sides[1]} x {sides[0]} "
            f"pixels, got mode {picture.mode} of {width} x {height} in {path}"
        )
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture whose pixels are not decoded yet."""
    from PIL import Image

    with (
        reading(path, "be a whole picture", "image"),
        warnings.catch_warnings(action="ignore"),  # about the size, which is checked here
        Image.open(path, formats=("PNG", "JPEG")) as picture,
    ):
        yield picture
