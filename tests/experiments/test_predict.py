"""Image files in, a table out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from torch import nn

from qtlite.experiments.cli import main
from qtlite.experiments.inference.predict import load_classifier, probabilities, read_images
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import save_json, save_safetensors

BOOK = Path(__file__).resolve().parents[2] / "book"
THREE = BOOK / "_static" / "draw-3.png"
MODELS = sorted((BOOK / "models").glob("mnist-*"))
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@pytest.mark.parametrize("path", MODELS, ids=[path.name for path in MODELS])
def test_every_model_knows_a_three(path, capsys):
    assert main(["predict", str(path), str(THREE)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["image", "class", *"0123456789"]
    assert line.split()[:2] == ["draw-3.png", "3"]
    assert sum(map(float, line.split()[2:])) == pytest.approx(100, abs=0.6)


def test_pictures_and_arrays_of_one_image_agree(tmp_path):
    pixels = np.asarray(Image.open(THREE))
    expected = read_images(THREE, GREY)
    assert (expected.shape, expected.dtype) == ((1, *GREY), np.uint8)
    np.testing.assert_array_equal(expected[0, 0], pixels)
    for shape in [(28, 28), GREY, (1, *GREY)]:
        np.save(tmp_path / "a.npy", pixels.reshape(shape))
        np.testing.assert_array_equal(read_images(tmp_path / "a.npy", GREY), expected)
    np.save(tmp_path / "a.npy", np.stack([pixels, pixels]))
    assert read_images(tmp_path / "a.npy", GREY).shape == (2, *GREY)
    Image.fromarray(255 - pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", GREY, invert=True), expected)
    Image.fromarray(pixels).save(tmp_path / "a.JPG", format="jpeg", quality=95)
    assert np.abs(read_images(tmp_path / "a.JPG", GREY).astype(int) - expected).max() < 30


def test_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_images(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(found[0, 2], pixels[:, :, 2])
    np.save(tmp_path / "a.npy", found)
    np.testing.assert_array_equal(read_images(tmp_path / "a.npy", COLOUR), found)


def test_images_that_do_not_fit(tmp_path):
    png, npy = tmp_path / "a.png", tmp_path / "a.npy"
    Image.new("RGB", (28, 28)).save(png)
    text = "must be grey .* 28 x 28 .*, got mode RGB of 28 x 28 in"
    refused(text, read_images, png, GREY)
    Image.new("L", (32, 30)).save(png)
    refused("got mode L of 32 x 30 in", read_images, png, GREY)
    refused(r"must be RGB .* 32 x 32 .*, got mode L of 32 x 30", read_images, png, COLOUR)
    flipped = bytearray(THREE.read_bytes())
    flipped[-40] ^= 1  # in the pixels, whose checksum decoders pass over
    for content, text in (
        (THREE.read_bytes()[:100], "image must be a whole picture"),
        (flipped, "image must be a whole picture, .* checksum"),
        (b"no picture", "image must be a whole picture"),
    ):
        png.write_bytes(content)
        refused(text, read_images, png, GREY)
    numbers = "image must be a whole .npy file of numbers"
    for array, text in (
        (np.zeros((28, 28)), "image must be uint8, 0 to 255, got float64"),
        (np.zeros((27, 28), np.uint8), r"image must have shape \(1, 28, 28\), got \(27, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), r"got \(0, 1, 28, 28\)"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"got \(2, 3, 28, 28\)"),
        (np.array([{"a": 1}]), numbers),
    ):
        np.save(npy, array, allow_pickle=True)
        refused(text, read_images, npy, GREY)
    with npy.open("wb") as file:
        np.savez(file, np.zeros((28, 28), np.uint8))
    refused(f"{numbers}, got .*magic string", read_images, npy, GREY)
    refused("image must be a .png, .jpg or .npy file", read_images, __file__, GREY)
    for shape in ((28, 28), (2, 28, 28), ()):
        refused(r"shape must be \(1 or 3, height, width\), got ", read_images, THREE, shape)
    text = "image must be a file, got none.png"
    refused(text, read_images, "none.png", GREY, error=FileNotFoundError)


def test_a_picture_is_turned_as_its_orientation_says(tmp_path):
    """A photo of a 3 that the camera stored on its side, in each of EXIF's eight ways."""
    picture, exif = Image.open(THREE), Image.Exif()
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    for orientation, turn in stored.items():
        exif[0x0112] = orientation
        picture.transpose(turn).save(tmp_path / "a.png", exif=exif)
        found = read_images(tmp_path / "a.png", GREY)
        np.testing.assert_array_equal(found[0, 0], np.asarray(picture))
    wide = Image.new("L", (30, 20))
    wide.save(tmp_path / "a.jpg", exif=exif)
    assert read_images(tmp_path / "a.jpg", (1, 30, 20)).shape == (1, 1, 30, 20)
    with pytest.raises(ValueError, match="30 x 20 pixels, got mode L of 20 x 30 in"):
        read_images(tmp_path / "a.jpg", (1, 20, 30))


def test_names_of_files_do_not_reach_the_terminal_raw(tmp_path, capsys):
    image = tmp_path / "\x1b[2J.png"
    image.write_bytes(THREE.read_bytes())
    assert main(["predict", str(BOOK / "models" / "mnist-qt-16.json"), str(image)]) == 0
    printed = capsys.readouterr().out
    assert "\\x1b[2J.png" in printed
    assert "\x1b" not in printed
    assert main(["predict", str(image), str(image)]) == 2
    printed = capsys.readouterr().err
    assert "\\x1b[2J.png" in printed
    assert "\x1b" not in printed


def test_models_that_cannot_be_used(tmp_path):
    text = "model must be a file, got none.onnx"
    refused(text, load_classifier, "none.onnx", error=FileNotFoundError)
    refused("model must be a file that ends in one of .safetensors", load_classifier, __file__)
    (tmp_path / "a.pt2").write_bytes(b"whatever")
    refused("model must be a file that cannot run code", load_classifier, tmp_path / "a.pt2")
    network = nn.Sequential(nn.Linear(3, 2))
    text = "path must hold a model's dataset and classes, .*`dataset`"
    refused(text, load_classifier, save_json(network, tmp_path / "a.json"))
    text = "path must hold a model's dataset and pixels, .*`dataset`"
    refused(text, load_classifier, save_safetensors(network, tmp_path / "a.safetensors"))
    about = {"dataset": "digits", "classes": json.dumps(list("0123456789")), "relu": "true"}
    text = "model must classify images of its dataset, got .*: "
    refused(text, load_classifier, save_json(network, tmp_path / "b.json", about))
    for mean, std in (("x", "1"), ("nan", "1"), ("0", "0")):
        path = tmp_path / f"{mean}{std}.safetensors"
        pixels = {"pixel_mean": mean, "pixel_std": std}
        save_safetensors(paper_cnn("digits"), path, about | pixels)
        refused("model must say the mean and .* of pixels, got .*: ", load_classifier, path)


def test_command_line_has_a_line_for_each_image(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.repeat(np.asarray(Image.open(THREE))[None], 2, axis=0))
    model = str(BOOK / "models" / "mnist-qt-16.json")
    assert main(["predict", model, str(tmp_path / "a.npy"), str(THREE)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["a.npy[0]", "a.npy[1]", "draw-3.png"]
    assert main(["predict", model, "none.png"]) == 2
    assert capsys.readouterr().err.startswith("qtlite: image must be a file")


def test_softmax_of_large_scores():
    np.testing.assert_allclose(probabilities(np.array([1000.0, 1000.0, -1000.0])), [0.5, 0.5, 0])
