"""Load a dataset of the catalogue into memory, as uint8 tensors.

torchvision reads the files and downloads them on request. The MD5 of every file is compared with
the catalogue's before it is used. ``digits`` is part of scikit-learn and needs no download.
"""

import hashlib
import http.client
import os
import warnings
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from qtlite.experiments.data.catalogue import CATALOGUE, DATASETS, entry_of, is_own
from qtlite.experiments.data.torchvision import import_torchvision

DATA_VARIABLE = "QTLITE_DATA"
OFFLINE_VARIABLE = "QTLITE_OFFLINE"
DATA_FOLDER = "data"  # if neither an argument nor the variable names one

_N_DIGITS_TRAIN = 1500


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split in two.

    Attributes:
        name: of the catalogue; a validation split's ends in "-validation".
        classes: the meaning of each label; label k is ``classes[k]``.
        train_images: uint8, 0 to 255, shape (n_train, channels, height, width).
        train_labels: int64, shape (n_train,).
        test_images: uint8, 0 to 255, shape (n_test, channels, height, width).
        test_labels: int64, shape (n_test,).
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def split_validation(self, n_validation: int) -> "Dataset":
        """Replace the test set by the last training images, which are then not trained on.

        Use it for every choice (learning rate, recipe, epochs): test images must not decide any.

        Args:
            n_validation: training images to hold out, 1 <= n_validation < n_train.

        Raises:
            ValueError: if n_validation is out of range.

        Example:
            >>> digits = load_dataset("digits").split_validation(300)
            >>> digits.name, len(digits.train_labels), len(digits.test_labels)
            ('digits-validation', 1200, 300)
        """
        n_train = len(self.train_labels)
        if not (isinstance(n_validation, int) and 1 <= n_validation < n_train):
            raise ValueError(
                f"n_validation must be a whole number, at least 1 and less than the {n_train} "
                f"training images, got {n_validation!r}"
            )
        sizes = n_train - n_validation, n_validation
        parts = zip(self.train_images.split(sizes), self.train_labels.split(sizes), strict=True)
        (images, labels), test = parts
        return Dataset(f"{self.name}-validation", self.classes, images, labels, *test)


def load_dataset(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Dataset:
    """Load a dataset of the catalogue into memory.

    ============== =============== ================ =======
    name           train / test    image            bytes
    ============== =============== ================ =======
    mnist          60,000 / 10,000 (1, 28, 28)      55 MB
    fashion_mnist  60,000 / 10,000 (1, 28, 28)      55 MB
    cifar10        50,000 / 10,000 (3, 32, 32)      184 MB
    digits         1,500 / 297     (1, 28, 28)      1.4 MB
    ============== =============== ================ =======

    ``digits`` are scikit-learn's 8 x 8 digits in their own order: the first 1,500 are for training,
    the last 297, by other writers, for testing. They are enlarged bilinearly to 28 x 28, so that
    MNIST's network and its 13 qubits fit.

    Args:
        name: of the catalogue, or of own images, see ``load_images``.
        folder: where torchvision keeps its datasets, or the path of own images; if left out, the
            value of the environment variable QTLITE_DATA, else "data". "digits" needs none.
        download: fetch missing files. Otherwise nothing is written.

    Raises:
        ValueError: if the name is unknown, or a file differs from the published one.
        FileNotFoundError: if files are missing and ``download`` is off.
        ConnectionError: if the download fails.
        PermissionError: if ``download`` may not write to the folder.

    Example:
        >>> digits = load_dataset("digits")
        >>> tuple(digits.train_images.shape), tuple(digits.test_images.shape)
        ((1500, 1, 28, 28), (297, 1, 28, 28))
    """
    path = find_files(name, folder, download=download)
    if is_own(name):
        from qtlite.experiments.data.images import load_images

        if (found := load_images(path)).name != name:
            raise ValueError(f"folder must hold the images {name}, got {found.name} in {path}")
        return found
    return _load_digits() if CATALOGUE[name].torchvision_class is None else _read(name, path)


def find_files(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Path:
    """Return the folder that ``load_dataset`` reads, with its files checked; same arguments."""
    path, missing = _look(name, folder)
    if download and entry_of(name).files:
        _download(name, path)
    elif missing:
        raise FileNotFoundError(
            f"folder must hold the files of {name}, got {str(path)!r} without "
            f"{', '.join(missing)}; load with download=True (--download), or point folder (--data) "
            f"or {DATA_VARIABLE} to where they are"
        )
    for file, md5 in entry_of(name).files.items():
        with open(path / file, "rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        if found.hexdigest() != md5:
            raise ValueError(
                f"folder must hold the published files of {name} (MD5 {md5}), got "
                f"{str(path / file)!r} with MD5 {found.hexdigest()}: it is damaged or incomplete; "
                "delete it and load with download=True"
            )
    return path


def available(name: str, folder: str | os.PathLike | None = None) -> bool:
    """True if ``load_dataset(name, folder)`` finds its files without a download.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> available("digits"), available("mnist", "no/such/folder")
        (True, False)
    """
    return not _look(name, folder)[1]


def fetch(name: str, folder: str | os.PathLike | None = None) -> str:
    """Return the dataset's name once its files are present, or "digits" if they cannot be had.

    Missing files are downloaded, unless the environment variable QTLITE_OFFLINE is set: no build of
    the book waits for a host. Pages print the name, so that the reader knows which images it has.

    Args:
        name, folder: see ``load_dataset``.

    Raises:
        ValueError: if the name is unknown, or a file differs from the published one.

    Warns:
        UserWarning: why a download failed.

    Example:
        >>> fetch("digits")
        'digits'
    """
    if not available(name, folder):
        if os.environ.get(OFFLINE_VARIABLE):
            return "digits"
        try:
            find_files(name, folder, download=True)
        except ConnectionError as error:
            warnings.warn(str(error), stacklevel=2)
            return "digits"
    return name


def to_float(images: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    """Turn stored pixels into network input: (pixel / 255 - mean) / std.

    Args:
        images: uint8, any shape.
        mean, std: the authors' released code uses 0.5 and 0.5, which gives -1 to 1.

    Returns:
        float32, same shape and device as ``images``.

    Raises:
        ValueError: if ``images`` are not uint8 (already scaled?), mean is not finite, or std is not
            positive and finite.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
        [-1.0, -0.6000000238418579, 1.0]
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, 0 to 255, got {images.dtype}")
    if not isfinite(mean):
        raise ValueError(f"mean must be finite, got {mean}")
    if not (isfinite(std) and std > 0):
        raise ValueError(f"std must be positive and finite, got {std}")
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def _look(name: str, folder: str | os.PathLike | None) -> tuple[Path, list[str]]:
    """The data folder, and the dataset's files that it lacks."""
    if name not in DATASETS and not is_own(name):
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}")
    path = Path(folder or os.environ.get(DATA_VARIABLE) or DATA_FOLDER).expanduser()
    return path, [file for file in entry_of(name).files if not (path / file).is_file()]


def _download(name: str, folder: Path) -> None:
    try:
        _torchvision_dataset(name, folder, train=True, download=True)
    except PermissionError:
        raise
    # torchvision's errors for an unreachable host, a broken transfer and a wrong MD5
    except (RuntimeError, http.client.HTTPException, OSError) as error:
        raise ConnectionError(
            f"download of {name} must reach its hosts, got: {error}; try again, or copy the files "
            f"to {str(folder)!r} by hand, or use 'digits', which needs no download"
        ) from error


def _torchvision_dataset(name: str, folder: Path, *, train: bool, download: bool = False):
    import_torchvision()
    from torchvision import datasets

    read = getattr(datasets, CATALOGUE[name].torchvision_class)
    with warnings.catch_warnings():
        # CIFAR-10's pickles pass a dtype's arguments as older versions of NumPy did
        warnings.filterwarnings("ignore", message=r".*align should be passed as", append=False)
        return read(folder, train=train, download=download)


def _read(name: str, folder: Path) -> Dataset:
    tensors = {}
    for split in ("train", "test"):
        part = _torchvision_dataset(name, folder, train=split == "train")
        pixels = torch.as_tensor(part.data)  # (n, height, width) or (n, height, width, channels)
        images = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        tensors[f"{split}_images"] = images.contiguous()
        tensors[f"{split}_labels"] = torch.as_tensor(part.targets, dtype=torch.int64)
    return Dataset(name=name, classes=CATALOGUE[name].classes, **tensors)


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).unsqueeze(1)  # float64, 0 to 16
    large = nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    images = (large * (255 / 16)).round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    split = _N_DIGITS_TRAIN
    parts = images[:split], labels[:split], images[split:], labels[split:]
    return Dataset("digits", CATALOGUE["digits"].classes, *parts)
