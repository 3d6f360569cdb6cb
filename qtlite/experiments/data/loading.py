"""The four datasets, whole, as uint8 tensors in memory.

MNIST, FashionMNIST and CIFAR-10 are read through torchvision, which also downloads them where that
is asked for; every file is held against its published MD5 before it is used. ``digits`` is inside
scikit-learn, so it is there without a network: the default wherever nothing else is.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from qtlite.experiments.data.catalogue import CATALOGUE, DATASETS
from qtlite.experiments.data.torchvision import import_torchvision

DATA_VARIABLE = "QTLITE_DATA"
DATA_FOLDER = "data"  # where nothing else is said

_N_DIGITS_TRAIN = 1500


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split in two.

    Attributes:
        name: "mnist", "fashion_mnist", "cifar10" or "digits"; a validation split says so.
        classes: what each label means; label k is ``classes[k]``.
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

    def split_validation(self, n_validation: int) -> Dataset:
        """Hold out the last training images in place of the test set, which is left out altogether.

        For every choice (learning rate, recipe, number of epochs), so that none is made on the test
        images.

        Args:
            n_validation: number of training images to hold out, 1 <= n_validation < n_train.

        Returns:
            The first n_train - n_validation images to train on, and the last n_validation as
            ``test_images``, under the name "<name>-validation".

        Raises:
            ValueError: if n_validation is out of range.

        Example:
            >>> digits = load_dataset("digits").split_validation(300)
            >>> digits.name, len(digits.train_labels), len(digits.test_labels)
            ('digits-validation', 1200, 300)
        """
        n_train = len(self.train_labels)
        if not 1 <= n_validation < n_train:
            raise ValueError(
                f"n_validation must be at least 1 and less than the {n_train} training images, "
                f"got {n_validation}"
            )
        n_kept = n_train - n_validation
        return Dataset(
            name=f"{self.name}-validation",
            classes=self.classes,
            train_images=self.train_images[:n_kept],
            train_labels=self.train_labels[:n_kept],
            test_images=self.train_images[n_kept:],
            test_labels=self.train_labels[n_kept:],
        )


def load_dataset(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Dataset:
    """Load a whole dataset into memory.

    ============== =============== ================ ======= =====================
    name           train / test    image            bytes   source
    ============== =============== ================ ======= =====================
    mnist          60,000 / 10,000 (1, 28, 28)      55 MB   torchvision
    fashion_mnist  60,000 / 10,000 (1, 28, 28)      55 MB   torchvision
    cifar10        50,000 / 10,000 (3, 32, 32)      184 MB  torchvision
    digits         1,500 / 297     (1, 28, 28)      1.4 MB  inside scikit-learn
    ============== =============== ================ ======= =====================

    ``digits`` are scikit-learn's 8x8 digits: in their own order, the first 1,500 to train on and
    the last 297 to test on (so by writers that training never saw), enlarged bilinearly to 28x28 so
    that MNIST's network and its 13 qubits fit.

    Args:
        name: "mnist", "fashion_mnist", "cifar10" or "digits".
        folder: where torchvision keeps its datasets; what the environment variable QTLITE_DATA
            says if left out, else "data". Not needed for "digits".
        download: fetch the files if they are missing. Otherwise nothing is written.

    Raises:
        ValueError: if the name is unknown, or a file is not the published one.
        FileNotFoundError: if files are missing and ``download`` is off.
        ConnectionError: if the download fails.
        PermissionError: if ``download`` may not write to the folder.

    Example:
        >>> digits = load_dataset("digits")
        >>> tuple(digits.train_images.shape), tuple(digits.test_images.shape)
        ((1500, 1, 28, 28), (297, 1, 28, 28))
    """
    _check_name(name)
    if name == "digits":
        return _load_digits()
    return _read(name, find_files(name, folder, download=download))


def find_files(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Path:
    """The folder that ``load_dataset`` would read; arguments and errors are the same.

    Args:
        name: "mnist", "fashion_mnist" or "cifar10".
        folder: see ``load_dataset``.
        download: see ``load_dataset``.
    """
    path = _data_folder(folder)
    if download:
        _download(name, path)
    _check_files(name, path)
    return path


def available(name: str, folder: str | os.PathLike | None = None) -> bool:
    """Tell whether ``load_dataset(name, folder)`` would find its files without a download.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> available("digits"), available("mnist", "no/such/folder")
        (True, False)
    """
    _check_name(name)
    path = _data_folder(folder)
    return name == "digits" or not _missing_files(name, path)


def best_available(preferred: str, folder: str | os.PathLike | None = None) -> str:
    """Name the preferred dataset where its files are present, and "digits" where they are not.

    For pages that run anywhere: print the name, so that the reader knows which it was.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> best_available("mnist", "no/such/folder")
        'digits'
    """
    return preferred if available(preferred, folder) else "digits"


def to_float(images: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    """Turn stored pixels into network input: (pixel / 255 - mean) / std.

    Args:
        images: uint8, any shape.
        mean, std: the authors' released code has 0.5 and 0.5, so -1 to 1.

    Returns:
        float32, same shape and device as ``images``.

    Raises:
        ValueError: if ``images`` are not uint8 (scaled already?), or std is not positive.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
        [-1.0, -0.6000000238418579, 1.0]
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, 0 to 255, got {images.dtype}")
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}")
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}")


def _data_folder(folder: str | os.PathLike | None) -> Path:
    return Path(folder or os.environ.get(DATA_VARIABLE) or DATA_FOLDER).expanduser()


def _missing_files(name: str, folder: Path) -> list[str]:
    return [file for file in CATALOGUE[name].files if not (folder / file).is_file()]


def _check_files(name: str, folder: Path) -> None:
    """Raise unless every file of the dataset is there and is the published one."""
    if missing := _missing_files(name, folder):
        raise FileNotFoundError(
            f"folder must hold the files of {name}, got {str(folder)!r} without "
            f"{', '.join(missing)}; load with download=True (--download), or point folder (--data) "
            f"or {DATA_VARIABLE} to where they are"
        )
    for file, md5 in CATALOGUE[name].files.items():
        with open(folder / file, "rb") as stream:
            found = hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != md5:
            raise ValueError(
                f"folder must hold the published files of {name} (MD5 {md5}), got "
                f"{str(folder / file)!r} with MD5 {found}: it is damaged or incomplete; "
                "delete it and load with download=True"
            )


def _download(name: str, folder: Path) -> None:
    try:
        _torchvision_dataset(name, folder, train=True, download=True)
    except PermissionError:
        raise
    # torchvision reports a host that is gone, a broken transfer and a wrong MD5 in these ways
    except (RuntimeError, http.client.HTTPException, OSError) as error:
        raise ConnectionError(
            f"download of {name} must reach its hosts, got: {error}; try again, or copy the files "
            f"to {str(folder)!r} by hand, or use 'digits', which needs no download"
        ) from error


def _torchvision_dataset(name: str, folder: Path, *, train: bool, download: bool = False):
    import_torchvision()
    from torchvision import datasets

    with warnings.catch_warnings():
        # CIFAR-10's pickles are older than numpy's present idea of a dtype's arguments
        warnings.filterwarnings("ignore", message=r".*align should be passed as", append=False)
        return getattr(datasets, CATALOGUE[name].torchvision_class)(
            folder, train=train, download=download
        )


def _read(name: str, folder: Path) -> Dataset:
    tensors = {}
    for split in ("train", "test"):
        part = _torchvision_dataset(name, folder, train=split == "train")
        if name == "cifar10":
            images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        else:
            images = part.data.unsqueeze(1)
        tensors[f"{split}_images"] = images
        tensors[f"{split}_labels"] = torch.as_tensor(part.targets, dtype=torch.int64)
    # torchvision names MNIST's classes "0 - zero"
    classes = tuple(title.split(" - ")[0] for title in part.classes)
    return Dataset(name=name, classes=classes, **tensors)


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).unsqueeze(1)  # float64, 0 to 16
    large = nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    images = (large * (255 / 16)).round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        train_images=images[:_N_DIGITS_TRAIN],
        train_labels=labels[:_N_DIGITS_TRAIN],
        test_images=images[_N_DIGITS_TRAIN:],
        test_labels=labels[_N_DIGITS_TRAIN:],
    )
