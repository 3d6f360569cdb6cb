"""Datasets: published counts and means, error texts, the repair of ``import torchvision``."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qtlite.experiments.data import catalogue, loading
from qtlite.experiments.data import torchvision as _torchvision
from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.data.loading import (
    available,
    fetch,
    load_dataset,
    to_float,
)
from qtlite.experiments.data.torchvision import import_torchvision

REAL_FOLDER = Path(os.environ.get("QTLITE_DATA") or Path(__file__).parents[2] / ".data")

# counts, mean of pixel / 255 for each channel, the first labels: as published
PUBLISHED = {
    "mnist": {
        "train": (60_000, [0.1307], [5, 0, 4, 1, 9, 2, 1, 3]),
        "test": (10_000, [0.1325], [7, 2, 1, 0, 4, 1, 4, 9]),
    },
    "fashion_mnist": {
        "train": (60_000, [0.2860], [9, 0, 0, 3, 0, 2, 7, 2]),
        "test": (10_000, [0.2868], [9, 2, 1, 1, 6, 1, 4, 6]),
    },
    "cifar10": {
        "train": (50_000, [0.4914, 0.4822, 0.4465], [6, 9, 9, 4, 1, 1, 2, 7]),
        "test": (10_000, [0.4942, 0.4851, 0.4504], [3, 8, 8, 0, 6, 6, 1, 6]),
    },
}
IMAGE_SHAPE = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "digits": (1, 28, 28),
}


@pytest.fixture
def no_data_variable(monkeypatch):
    monkeypatch.delenv("QTLITE_DATA", raising=False)


def real_dataset(name):
    if not available(name, REAL_FOLDER):
        pytest.skip(f"{name} is not in {REAL_FOLDER}; QTLITE_DATA names the folder to look in")
    return load_dataset(name, REAL_FOLDER)


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_dataset_is_the_published_one(name):
    dataset = real_dataset(name)
    assert dataset.name == name
    assert len(dataset.classes) == 10
    for split, (count, mean, first_labels) in PUBLISHED[name].items():
        images = getattr(dataset, f"{split}_images")
        labels = getattr(dataset, f"{split}_labels")
        assert images.shape == (count, *IMAGE_SHAPE[name])
        assert images.dtype == torch.uint8
        assert labels.shape == (count,)
        assert labels.dtype == torch.int64
        assert labels[:8].tolist() == first_labels
        means = torch.stack([channel.double().mean() for channel in images.unbind(1)]) / 255
        assert means.tolist() == pytest.approx(mean, abs=5e-5)
        if name != "mnist":
            assert labels.bincount().tolist() == [count // 10] * 10


@pytest.mark.parametrize("name", PUBLISHED)
def test_classes_are_torchvisions(name):
    real_dataset(name)
    import_torchvision()
    from torchvision import datasets

    read = getattr(datasets, CATALOGUE[name].torchvision_class)(REAL_FOLDER, train=False)
    # torchvision calls MNIST's classes "0 - zero"
    assert CATALOGUE[name].classes == tuple(title.split(" - ")[0] for title in read.classes)


def test_mnist_counts_of_each_class():
    labels = real_dataset("mnist").test_labels
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


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


def test_digits_are_scikit_learns(no_data_variable):
    dataset = load_dataset("digits")
    assert dataset.train_images.shape == (1500, 1, 28, 28)
    assert dataset.test_images.shape == (297, 1, 28, 28)
    assert dataset.train_images.dtype == dataset.test_images.dtype == torch.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == torch.int64
    assert dataset.train_labels[:10].tolist() == list(range(10))
    assert dataset.train_images.amin() == 0
    assert dataset.train_images.amax() == 255
    assert dataset.test_labels.unique().tolist() == list(range(10))


def test_digits_are_the_same_every_time():
    first, second = load_dataset("digits"), load_dataset("digits")
    assert torch.equal(first.train_images, second.train_images)
    assert torch.equal(first.test_labels, second.test_labels)


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


@pytest.mark.parametrize("n_validation", [0, -1, 1500, 1.5, "2"])
def test_validation_split_out_of_range(n_validation):
    with pytest.raises(
        ValueError,
        match=f"n_validation must be a whole number, .* than the 1500 .* got {n_validation!r}$",
    ):
        load_dataset("digits").split_validation(n_validation)


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


def test_to_float_refuses_scaled_images():
    with pytest.raises(ValueError, match=r"images must be uint8, 0 to 255, got torch\.float32"):
        to_float(torch.zeros(2, 1, 28, 28))
    pixels = torch.zeros(2, dtype=torch.uint8)
    for wrong in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"std must be positive and finite, got {wrong}"):
            to_float(pixels, std=wrong)
    with pytest.raises(ValueError, match="mean must be finite, got nan"):
        to_float(pixels, mean=float("nan"))


@pytest.mark.parametrize("function", [load_dataset, available, fetch])
def test_unknown_name(function):
    with pytest.raises(
        ValueError, match="name must be one of mnist, fashion_mnist, cifar10, digits, got 'MNIST'"
    ):
        function("MNIST")


def test_where_no_folder_is_named_it_is_data(no_data_variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"got 'data' without .*--download"):
        load_dataset("mnist")
    assert not available("mnist")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files(name, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=rf"folder must hold the files of {name}, got '{tmp_path}' without .*"
        r"load with download=True \(--download\), or point folder \(--data\) or QTLITE_DATA",
    ):
        load_dataset(name, tmp_path)
    assert not available(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_missing_file_is_named(tmp_path):
    names = list(CATALOGUE["mnist"].files)
    for file in names[:3]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=f"without {names[3]};"):
        load_dataset("mnist", tmp_path)


def damaged_copy(name, file, destination, damage):
    real_dataset(name)
    for source in CATALOGUE[name].files:
        (destination / source).parent.mkdir(parents=True, exist_ok=True)
        (destination / source).symlink_to((REAL_FOLDER / source).resolve())
    content = (REAL_FOLDER / file).read_bytes()
    (destination / file).unlink()
    (destination / file).write_bytes(damage(content))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-labels-idx1-ubyte"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
    ],
)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: content[:-1] + bytes([content[-1] ^ 1]), id="tampered"),
    ],
)
def test_damaged_file(name, file, damage, tmp_path):
    damaged_copy(name, file, tmp_path, damage)
    with pytest.raises(
        ValueError,
        match=rf"folder must hold the published files of {name} \(MD5 \w+\), got "
        rf"'{tmp_path / file}' .* delete it and load with download=True",
    ):
        load_dataset(name, tmp_path)


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
    with pytest.raises(ConnectionError, match=text):
        load_dataset(name, tmp_path, download=True)
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


def test_download_of_what_is_there_needs_no_network(tmp_path):
    """torchvision takes the packed files of an earlier download if their MD5s are right."""
    real_dataset("mnist")
    shutil.copytree(REAL_FOLDER / "MNIST", tmp_path / "MNIST")
    assert len(load_dataset("mnist", tmp_path, download=True).test_labels) == 10_000


def test_repair_leaves_a_sound_torchvision_alone(monkeypatch):
    sound = import_torchvision()  # repaired here if need be; imports soundly from now on

    def must_not_run():
        raise AssertionError("repaired a sound torchvision")

    monkeypatch.setattr(_torchvision, "_declare_missing_operators", must_not_run)
    assert import_torchvision() is sound


def test_repair_passes_other_errors_on(monkeypatch):
    def import_module(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(_torchvision.importlib, "import_module", import_module)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        import_torchvision()


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
    images = load_dataset("digits").train_images
    files = {}
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
        '    "kmnist": Entry(\n        image_shape=(1, 28, 28),\n'
        f"        classes=tuple('abcdefghij'),\n        pixel_mean=0.3,\n        pixel_std=0.3,\n"
        f'        torchvision_class="KMNIST",\n        files={files},\n    ),\n'
    )
    shutil.copytree(Path(catalogue.__file__).parents[2], tmp_path / "qtlite")
    copy = tmp_path / "qtlite/experiments/data/catalogue.py"
    before, opening, after = copy.read_text().partition("CATALOGUE: dict[str, Entry] = {\n")
    copy.write_text(before + opening + entry + after)
    command = "-m qtlite.experiments.cli train --dataset kmnist --data data --epochs 1 --quiet"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert "of 32 images of kmnist" in done.stdout
