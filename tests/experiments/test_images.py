"""Own images: folders and arrays as datasets, from training to predicting, and bad ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted import png
from PIL import Image
from refusals import refused

from qtlite.experiments.cli import main
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import CATALOGUE, entry_of, is_own
from qtlite.experiments.data.images import load_images
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import departures

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
QUICK = ["train", "--quiet", "--n-train", "128", "--epochs", "1", "--blocks", "2"]


def write_folder(folder, images, labels, classes, start=0):
    for place, (image, label) in enumerate(zip(images, labels, strict=True), start):
        path = folder / classes[int(label)] / f"{place:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image).squeeze()).save(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits as a folder of PNGs with the same split, and as an .npz file."""
    folder, data = tmp_path_factory.mktemp("digits"), load_dataset("digits")
    for part in ("train", "test"):
        images, labels = (getattr(data, f"{part}_{what}") for what in ("images", "labels"))
        write_folder(folder / "pictures" / part, images, labels, data.classes)
    np.savez(folder / "digits.npz", **{name: getattr(data, name).numpy() for name in ARRAYS})
    return folder


def small(n=24, shape=(20, 16), seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return images, np.arange(n) % 2


def test_pictures_and_arrays_of_digits_are_the_digits(digits):
    data, pictures = load_dataset("digits"), load_images(digits / "pictures")
    for name in ARRAYS:
        assert torch.equal(getattr(pictures, name), getattr(data, name))
    assert pictures.classes == data.classes
    assert load_images(digits / "digits.npz").name == pictures.name
    entry, own = CATALOGUE["digits"], entry_of(pictures.name)
    assert (own.image_shape, own.pixel_mean, own.pixel_std) == (
        entry.image_shape,
        entry.pixel_mean,
        entry.pixel_std,
    )


def test_training_on_pictures_is_the_digits_run(digits, tmp_path, capsys):
    records = []
    for place, more in enumerate(([], ["--images", str(digits / "pictures")])):
        assert main([*QUICK, *more, "--runs", str(tmp_path / str(place))]) == 0
        (path,) = tmp_path.glob(f"{place}/*/record.json")
        records.append(json.loads(path.read_text()))
    digits_run, own = records
    assert own["test_accuracy"] == digits_run["test_accuracy"]
    assert own["test_loss"] == digits_run["test_loss"]
    assert own["dataset"] == load_images(digits / "pictures").name
    assert own["classes"] == list("0123456789")
    assert own["departures"] == digits_run["departures"]
    capsys.readouterr()
    again = [*QUICK, "--images", str(digits / "digits.npz"), "--runs", str(tmp_path / "1")]
    assert main(again) == 0
    assert capsys.readouterr().out.startswith("already done")


def test_from_a_folder_of_colour_pictures_to_predictions(tmp_path, capsys):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 100, (60, 24, 32, 3), dtype=np.uint8)
    images[..., 0] += (155 * labels).astype(np.uint8)[:, None, None]  # one class is red
    write_folder(tmp_path / "mine", images, labels, ("grey thing", "red thing"))
    command = ["train", "--quiet", "--epochs", "8", "--blocks", "2", "--batch-size", "10"]
    folders = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records")]
    assert main([*command, "--images", str(tmp_path / "mine"), *folders]) == 0
    (path,) = tmp_path.glob("records/*.json")
    record = json.loads(path.read_text())
    assert record["test_accuracy"] == 1
    assert (record["n_train"], record["n_test"]) == (50, 10)
    export = ["export", record["id"], *folders, "--folder", str(tmp_path), "--name", "m"]
    formats = ["onnx", "json", "compressed"]
    assert main([*export, "--data", str(tmp_path / "mine"), "--to", *formats]) == 0
    pictures = [
        str(tmp_path / "mine" / name) for name in ("red thing/0001.png", "grey thing/0002.png")
    ]
    for ending in ("onnx", "json", "angles.safetensors"):
        capsys.readouterr()
        assert main(["predict", str(tmp_path / f"m.{ending}"), *pictures]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "grey thing" in lines[0]
        assert "red thing" in lines[1]
        assert "grey thing" in lines[2]


def test_records_of_different_images_do_not_mix(tmp_path):
    images, labels = small()
    names = []
    for place, changed in enumerate(
        [
            (images, labels, ("a", "b")),
            (images, 1 - labels, ("a", "b")),
            (images, labels, ("a", "c")),
        ]
    ):
        write_folder(tmp_path / str(place), *changed)
        names.append(load_images(tmp_path / str(place)).name)
    images[3, 0, 0] ^= 1
    write_folder(tmp_path / "3", images, labels, ("a", "b"))
    names.append(load_images(tmp_path / "3").name)
    assert len(set(names)) == 4
    assert all(map(is_own, names))
    with pytest.raises(ValueError, match=f"folder must hold the images {names[0]}, got {names[3]}"):
        load_dataset(names[0], tmp_path / "3")
    assert load_dataset(names[1], tmp_path / "1").name == names[1]


def test_the_split_depends_on_pixels_only(tmp_path):
    images, labels = small(26)
    write_folder(tmp_path / "one", images, labels, ("a", "b"))
    write_folder(tmp_path / "other", images[::-1], labels[::-1], ("a", "b"), start=100)
    one, other = (load_images(tmp_path / name) for name in ("one", "other"))
    assert len(one.test_labels) == 6  # 13 images of each class: 3 of them
    assert torch.equal(one.test_images, other.test_images.flip(0))
    assert one.test_labels.tolist() == sorted(one.test_labels.tolist(), key=lambda _: 0)
    assert torch.bincount(one.test_labels).tolist() == [3, 3]
    everything = torch.cat([one.train_images, one.test_images]).flatten(1).tolist()
    assert sorted(everything) == sorted(images.reshape(26, -1).tolist())


def test_a_turned_photo_is_upright(tmp_path):
    images, labels = small(4, (20, 30))
    write_folder(tmp_path, images, labels, ("a", "b"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(images[0]).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a" / "0000.png", exif=exif)
    found = load_images(tmp_path)
    kept = torch.cat([found.train_images, found.test_images]).squeeze(1).tolist()
    assert images[0].tolist() in kept


def test_a_recipe_takes_the_images_mean(digits):
    config = recipe_config("qtlite", load_images(digits / "digits.npz").name)
    assert config.pixel_mean == CATALOGUE["digits"].pixel_mean
    assert departures(config) == []
    assert TrainConfig.from_dict(config.to_dict()) == config


def first(folder):
    return min((folder / "a").iterdir())


def last(mode, size):
    return lambda folder: Image.new(mode, size).save(folder / "a" / "last.png")


def other_classes_in_test(folder):
    for part, class_ in (("train", "cow"), ("test", "dog")):
        write_folder(folder / part, *small(), ("cat", class_))
    for name in "ab":
        shutil.rmtree(folder / name)


HUGE = "image must be grey .* or RGB .* of at most 999 x 999 pixels, got .*12000"
LIKE_THE_FIRST = r"image must be grey \(mode L\) of 16 x 20 pixels, got mode"
ONLY_PICTURES = r"images must be \.png or \.jpg files, got"
BAD_FOLDERS = {  # the mistake, and what is said of it
    "text": (lambda f: (f / "a/notes.txt").write_text("my notes"), f"{ONLY_PICTURES} .*notes.txt"),
    "nested": (lambda f: (f / "a/more").mkdir(), f"{ONLY_PICTURES} .*more"),
    "loose": (
        lambda f: shutil.copy(first(f), f / "loose.png"),
        "images must be in a folder for each class, got the file .*loose.png",
    ),
    "empty": (
        lambda f: [path.unlink() for path in (f / "b").iterdir()],
        "images must be in each class's folder, got none in .*b",
    ),
    "one class": (
        lambda f: shutil.rmtree(f / "b"),
        "images must have 2 to 999 different classes, got 1 in",
    ),
    "cut off": (
        lambda f: first(f).write_bytes(first(f).read_bytes()[:-30]),
        "image must be a whole picture, got .*0000.png: ",
    ),
    "no picture": (
        lambda f: first(f).write_bytes(b"GIF89a"),
        "image must be a whole picture, got .*0000.png: ",
    ),
    "other size": (last("L", (16, 21)), f"{LIKE_THE_FIRST} L of 16 x 21 in"),
    "colour and grey": (last("RGB", (16, 20)), f"{LIKE_THE_FIRST} RGB of"),
    "huge later": (
        lambda f: (f / "a/last.png").write_bytes(png(12_000, 12_000)),
        f"{LIKE_THE_FIRST} .* of 12000 x 12000",
    ),
    "huge": (lambda f: first(f).write_bytes(png(12_000, 12_000)), HUGE),
    "too huge to open": (
        lambda f: first(f).write_bytes(png(2**31 - 1, 2**31 - 1)),
        "image must be a whole picture, got .*exceeds limit",
    ),
    "other colours": (
        lambda f: Image.new("RGBA", (16, 20)).save(first(f)),
        "image must be grey .* or RGB .* of at most 999 x 999 .*got mode RGBA of",
    ),
    "unprintable": (
        lambda f: (f / "a").rename(f / "\x1b[2J"),
        r"classes must have printable names, got '.x1b\[2J' in",
    ),
    "one value": (
        lambda f: [Image.new("L", (16, 20), 7).save(path) for path in f.glob("*/*")],
        "images must differ, got pixels of one value in",
    ),
    "one image": (
        lambda f: [path.unlink() for path in list((f / "b").iterdir())[1:]],
        "images must have a test image of each class, got none of 'b' in",
    ),
    "parts": (
        other_classes_in_test,
        r"images must have the same classes in .*'s parts, got \['cow', 'dog'\]",
    ),
}


@pytest.mark.parametrize("how", BAD_FOLDERS)
def test_a_bad_folder_gets_one_clear_line(tmp_path, capsys, how):
    spoil, message = BAD_FOLDERS[how]
    write_folder(tmp_path / "mine", *small(), ("a", "b"))
    spoil(tmp_path / "mine")
    refused(message, load_images, tmp_path / "mine")
    assert main([*QUICK, "--images", str(tmp_path / "mine"), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qtlite: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None, "labels": None}, "images must have the arrays train_images, .*, got"),
        ({"labels": None}, "images must have the arrays labels, got .* without"),
        ({"images": small()[0] / 255}, r"images must be uint8 of shape .*, got float64 of shape"),
        ({"images": small()[0][:, 0]}, r"images must be uint8 .*, got uint8 of shape \(24, 16\)"),
        ({"images": small(24, (4, 20, 16))[0]}, "images must have 1 or 3 channels and sides of 1"),
        ({"images": small(24, (1000, 1))[0]}, "images must have 1 or 3 channels and sides of 1"),
        ({"labels": np.arange(23)}, "labels must be 24 whole numbers, one for each image"),
        ({"labels": np.arange(24) / 2}, "labels must be 24 whole numbers"),
        ({"labels": np.arange(24) % 2 - 1}, "labels must be 0 to 0, got -1|2 to 999 different"),
        ({"labels": np.arange(24) % 2 * 2}, "images must have a training image of .* none of '1'"),
        ({"labels": np.arange(24) % 2 * 10**9}, "images must have 2 to 999 different classes, got"),
        ({"classes": ["a", "a"]}, "images must have 2 to 999 different classes, got 1 in"),
        ({"classes": ["a", "b", "c"]}, "images must have a training image .* got none of 'c'"),
        ({"classes": np.array([{}, {}])}, r"images must be a whole \.npz file of arrays, got"),
    ],
)
def test_a_bad_npz_file_gets_one_clear_line(tmp_path, changes, message):
    images, labels = small()
    arrays = {"images": images, "labels": labels, **changes}
    path = tmp_path / "mine.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=message) as raised:
        load_images(path)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_images(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="images must be a folder or an .npz file, got none"
    ):
        load_images("none")
    refused("images must be a folder or an .npz file, got ", load_images, __file__)
    (tmp_path / "a.npz").write_bytes(b"PK")
    refused("images must be a whole .npz file of arrays, got ", load_images, tmp_path / "a.npz")
    parts = {"train_images": small()[0], "test_images": small(24, (20, 17))[0]}
    labels = {"train_labels": small()[1], "test_labels": small()[1]}
    np.savez(tmp_path / "c.npz", **parts, **labels)
    with pytest.raises(ValueError, match=r"images must all have one shape, got \(1, 20, 17\) too"):
        load_images(tmp_path / "c.npz")


def test_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("qtlite.experiments.data.images.MAX_BYTES", 24 * 20 * 16 - 1)
    write_folder(tmp_path / "mine", *small(), ("a", "b"))
    refused("images must take at most 7,679 bytes, got 24 of", load_images, tmp_path / "mine")
    np.savez_compressed(
        tmp_path / "a.npz", images=np.zeros((24, 20, 16), np.uint8), labels=[0] * 24
    )
    refused("images must be a whole .npz file .* more than 7,679", load_images, tmp_path / "a.npz")


def test_images_go_alone_and_must_be_large_enough(tmp_path, capsys):
    for more in (["--dataset", "digits"], ["--data", "."], ["--download"]):
        assert main([*QUICK, "--images", "mine", *more]) == 2
        assert "images must be given without dataset, data and download" in capsys.readouterr().err
    name = "images-2x1x15x40-0.5000-0.2500-0123456789abcdef"
    refused("dataset must have images of 16 x 16 pixels at least", paper_cnn, name)
    assert paper_cnn(name.replace("15x40", "16x40"))(torch.zeros(2, 1, 16, 40)).shape == (2, 2)
    for wrong in (name.replace("1x15", "2x15"), name[:-1], "images-", Path(name)):
        assert not is_own(wrong)
    refused("dataset must be one of", entry_of, name[:-1])
