"""Datasets: published counts and means, error texts, the repair of ``import torchvision``."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from refusals import refused

from qtlite.experiments.data import catalogue, loading
from qtlite.experiments.data import torchvision as _torchvision
from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.data.loading import available, fetch, load_dataset, to_float
from qtlite.experiments.data.torchvision import import_torchvision

REAL_FOLDER = Path(os.environ.get("QTLITE_DATA") or Path(__file__).parents[2] / ".data")

# shape; of each part: counts, mean of pixel / 255 for each channel, the first labels: as published
PUBLISHED = {
    "mnist": (
        (1, 28, 28),
        (60_000, [0.1307], [5, 0, 4, 1, 9, 2, 1, 3]),
        (10_000, [0.1325], [7, 2, 1, 0, 4, 1, 4, 9]),
    ),
    "fashion_mnist": (
        (1, 28, 28),
        (60_000, [0.2860], [9, 0, 0, 3, 0, 2, 7, 2]),
        (10_000, [0.2868], [9, 2, 1, 1, 6, 1, 4, 6]),
    ),
    "cifar10": (
        (3, 32, 32),
        (50_000, [0.4914, 0.4822, 0.4465], [6, 9, 9, 4, 1, 1, 2, 7]),
        (10_000, [0.4942, 0.4851, 0.4504], [3, 8, 8, 0, 6, 6, 1, 6]),
    ),
}
MNIST_CLASSES = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # test images of each


@pytest.fixture
def no_data_variable(monkeypatch):
    monkeypatch.delenv("QTLITE_DATA", raising=False)


def real_dataset(name):
    if not available(name, REAL_FOLDER):
        pytest.skip(f"{name} is not in {REAL_FOLDER}; QTLITE_DATA names the folder to look in")
    return load_dataset(name, REAL_FOLDER)


def pixels_are_as_described(dataset):
    entry, values = CATALOGUE[dataset.name], torch.arange(256).double() / 255
    shares = dataset.train_images.flatten().bincount(minlength=256).double()
    shares /= shares.sum()
    mean = (shares * values).sum()
    assert entry.pixel_mean == pytest.approx(mean.item(), abs=1e-4)
    std = (shares * (values - mean).square()).sum().sqrt()
    assert entry.pixel_std == pytest.approx(std.item(), abs=1e-4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_dataset_is_the_published_one(name):
    dataset, (shape, *parts) = real_dataset(name), PUBLISHED[name]
    for part, (count, mean, first_labels) in zip(("train", "test"), parts, strict=True):
        images, labels = (getattr(dataset, f"{part}_{what}") for what in ("images", "labels"))
        assert (images.shape, images.dtype) == ((count, *shape), torch.uint8)
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
        assert labels[:8].tolist() == first_labels
        sums = images.sum((0, 2, 3), dtype=torch.int64)
        assert (sums / images[:, 0].numel() / 255).tolist() == pytest.approx(mean, abs=5e-5)
        if name != "mnist":
            assert labels.bincount().tolist() == [count // 10] * 10
        elif part == "test":
            assert labels.bincount().tolist() == MNIST_CLASSES
    pixels_are_as_described(dataset)
    import_torchvision()
    from torchvision import datasets

    read = getattr(datasets, CATALOGUE[name].torchvision_class)(REAL_FOLDER, train=False)
    # torchvision calls MNIST's classes "0 - zero"
    assert dataset.classes == tuple(title.split(" - ")[0] for title in read.classes)


def test_mnist_loads_from_a_read_only_folder(tmp_path):
    real_dataset("mnist")
    shutil.copytree(REAL_FOLDER / "MNIST", tmp_path / "MNIST")
    before = sorted(tmp_path.rglob("*"))
    for path in [*before, tmp_path]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    load_dataset("mnist", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before  # root may write anywhere, so count as well
    for path in [tmp_path, *before]:
        path.chmod(0o700)


def test_folder_comes_from_the_environment(monkeypatch):
    real_dataset("mnist")
    monkeypatch.setenv("QTLITE_DATA", str(REAL_FOLDER))
    assert available("mnist")
    assert fetch("mnist") == "mnist"
    assert len(load_dataset("mnist").test_labels) == 10_000


def test_digits_are_scikit_learns_and_the_same_every_time(no_data_variable):
    dataset, again = load_dataset("digits"), load_dataset("digits")
    for part, n in (("train", 1500), ("test", 297)):
        images, labels = (getattr(dataset, f"{part}_{what}") for what in ("images", "labels"))
        assert (images.shape, images.dtype) == ((n, 1, 28, 28), torch.uint8)
        assert labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(10))
        assert torch.equal(images, getattr(again, f"{part}_images"))
    assert dataset.train_labels[:10].tolist() == list(range(10))
    assert dataset.train_images.amin() == 0
    assert dataset.train_images.amax() == 255
    pixels_are_as_described(dataset)


def test_digits_are_bilinear_enlargements():
    """Against scipy's interpolation at the pixel centres, an implementation of its own."""
    import numpy as np
    from scipy.ndimage import map_coordinates
    from sklearn.datasets import load_digits

    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    grid = np.meshgrid(centres, centres, indexing="ij")
    expected = map_coordinates(load_digits().images[7], grid, order=1) * 255 / 16
    found = load_dataset("digits").train_images[7, 0].double().numpy()
    assert abs(found - expected).max() <= 0.5 + 1e-9


def test_validation_split_is_the_end_of_the_training_images():
    digits = load_dataset("digits")
    split = digits.split_validation(200)
    assert split.name == "digits-validation"
    assert split.classes == digits.classes
    assert torch.equal(split.train_images, digits.train_images[:1300])
    assert torch.equal(split.train_labels, digits.train_labels[:1300])
    assert torch.equal(split.test_images, digits.train_images[1300:])
    assert torch.equal(split.test_labels, digits.train_labels[1300:])
    for wrong in (0, -1, 1500, 1.5, "2"):
        text = f"n_validation must be a whole number, .* than the 1500 .* got {wrong!r}$"
        refused(text, digits.split_validation, wrong)


def test_to_float_is_totensor_and_normalize():
    import_torchvision()
    from torchvision.transforms import v2

    images = load_dataset("digits").train_images[:5]
    reference = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5], std=[0.5])]
    )
    torch.testing.assert_close(to_float(images), reference(images))
    assert to_float(images).dtype == torch.float32
    assert to_float(images, mean=0.0, std=1.0).amax() == 1.0
    assert images.dtype == torch.uint8


def test_bad_arguments():
    text = r"images must be uint8, 0 to 255, got torch\.float32"
    refused(text, to_float, torch.zeros(2, 1, 28, 28))
    pixels = torch.zeros(2, dtype=torch.uint8)
    for wrong in (0.0, float("nan"), float("inf")):
        refused(f"std must be positive and finite, got {wrong}", to_float, pixels, std=wrong)
    refused("mean must be finite, got nan", to_float, pixels, mean=float("nan"))
    text = "name must be one of mnist, fashion_mnist, cifar10, digits, got 'MNIST'"
    for function in (load_dataset, available, fetch):
        refused(text, function, "MNIST")


def test_where_no_folder_is_named_it_is_data(no_data_variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(r"got 'data' without .*--download", load_dataset, "mnist", error=FileNotFoundError)
    assert not available("mnist")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files(name, tmp_path):
    text = (
        rf"folder must hold the files of {name}, got '{tmp_path}' without .*"
        r"load with download=True \(--download\), or point folder \(--data\) or QTLITE_DATA"
    )
    refused(text, load_dataset, name, tmp_path, error=FileNotFoundError)
    assert not available(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    *files, last = CATALOGUE[name].files
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    refused(f"without {last};", load_dataset, name, tmp_path, error=FileNotFoundError)


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "tampered": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-labels-idx1-ubyte"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
    ],
)
def test_damaged_file(name, file, damage, tmp_path):
    real_dataset(name)
    for source in CATALOGUE[name].files:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).symlink_to((REAL_FOLDER / source).resolve())
    (tmp_path / file).unlink()
    (tmp_path / file).write_bytes(DAMAGE[damage]((REAL_FOLDER / file).read_bytes()))
    text = (
        rf"folder must hold the published files of {name} \(MD5 \w+\), got "
        rf"'{tmp_path / file}' .* delete it and load with download=True"
    )
    refused(text, load_dataset, name, tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_download_without_a_network(name, tmp_path, monkeypatch):
    import_torchvision()
    from torchvision import datasets

    nobody = "http://127.0.0.1:9/"  # the loopback's discard port: refused at once
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nobody])
    monkeypatch.setattr(datasets.CIFAR10, "url", nobody + datasets.CIFAR10.filename)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    text = rf"(?s)download of {name} must reach its hosts, got: .*use 'digits'"
    refused(text, load_dataset, name, tmp_path, download=True, error=ConnectionError)
    with pytest.warns(UserWarning, match=text):
        assert fetch(name, tmp_path) == "digits"


def test_offline_nothing_is_fetched(tmp_path, monkeypatch):
    """What book/build.py sets: no download begins, and no warning stops the build."""
    monkeypatch.setenv("QTLITE_OFFLINE", "1")
    monkeypatch.setattr(loading, "_download", pytest.fail)
    assert fetch("mnist", tmp_path) == "digits"


def test_missing_files_are_fetched_once(tmp_path, monkeypatch):
    real_dataset("mnist")
    monkeypatch.delenv("QTLITE_OFFLINE", raising=False)
    asked = []

    def download(name, folder):
        asked.append(name)
        shutil.copytree(REAL_FOLDER / "MNIST", folder / "MNIST")

    monkeypatch.setattr(loading, "_download", download)
    assert [fetch("mnist", tmp_path), fetch("mnist", tmp_path)] == ["mnist", "mnist"]
    assert asked == ["mnist"]
    monkeypatch.undo()  # torchvision takes what is there if its MD5s are right: no network
    assert len(load_dataset("mnist", tmp_path, download=True).test_labels) == 10_000


def test_repair_leaves_a_sound_torchvision_alone(monkeypatch):
    sound = import_torchvision()  # repaired here if need be; imports soundly from now on

    monkeypatch.setattr(_torchvision, "_declare_missing_operators", pytest.fail)
    assert import_torchvision() is sound


def test_repair_passes_other_errors_on(monkeypatch):
    def import_module(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(_torchvision.importlib, "import_module", import_module)
    refused(r"^something else$", import_torchvision, error=RuntimeError)


def test_all_of_torchvision_imports_in_a_fresh_interpreter():
    program = (
        "from qtlite.experiments.data.torchvision import import_torchvision; import_torchvision(); "
        "import torchvision.datasets, torchvision.models, torchvision.transforms.v2"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_dataset_is_one_entry_of_the_catalogue(tmp_path):
    """An entry and files are enough to train on it by its name on the command line."""
    raw = tmp_path / "data/KMNIST/raw"
    raw.mkdir(parents=True)
    images, files = load_dataset("digits").train_images, {}
    for split, first, n in (("train", 0, 96), ("t10k", 96, 32)):
        pixels = images[first : first + n].numpy().tobytes()
        labels = bytes(i % 10 for i in range(first, first + n))
        for name, head, body in (
            (f"{split}-images-idx3-ubyte", [2051, n, 28, 28], pixels),
            (f"{split}-labels-idx1-ubyte", [2049, n], labels),
        ):
            content = b"".join(number.to_bytes(4, "big") for number in head) + body
            (raw / name).write_bytes(content)
            files[f"KMNIST/raw/{name}"] = hashlib.md5(content).hexdigest()
    entry = (
        "Entry(image_shape=(1, 28, 28), classes=tuple('abcdefghij'), pixel_mean=0.3, "
        f"pixel_std=0.3, torchvision_class='KMNIST', files={files})"
    )
    no_engine = shutil.ignore_patterns("engine", "__pycache__")  # nothing is compiled anew
    shutil.copytree(Path(catalogue.__file__).parents[2], tmp_path / "qtlite", ignore=no_engine)
    copy = tmp_path / "qtlite/experiments/data/catalogue.py"
    before, opening, after = copy.read_text().partition("CATALOGUE: dict[str, Entry] = {\n")
    copy.write_text(f"{before}{opening}    'kmnist': {entry},\n{after}")
    command = "-m qtlite.experiments.cli train --dataset kmnist --data data --epochs 1 --quiet"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *command.split()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert "of 32 images of kmnist" in done.stdout
