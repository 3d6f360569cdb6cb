"""draw-network.js under Node, held against PyTorch."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.export import classify_in_node
from qtlite.experiments.data.loading import available, load_dataset
from qtlite.experiments.inference.model_files import BOOK_MODELS
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.records.measurements import read_measurement
from qtlite.export import FromPixels, save_json

BOOK = Path(__file__).resolve().parents[2] / "book"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node on PATH")


def run_node(expression, *arguments):
    """The value of a JavaScript expression in which ``network`` is draw-network.js."""
    script = f"""
        const network = require({json.dumps(str(BOOK / "_static" / "draw-network.js"))});
        const given = process.argv.slice(1).map((text) => JSON.parse(text));
        process.stdout.write(JSON.stringify({expression}));
    """
    run = subprocess.run(
        ["node", "-e", script, *map(json.dumps, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout)


def examples():
    """The drawings that draw.js offers, one for each digit."""
    source = (BOOK / "_static" / "draw.js").read_text(encoding="utf-8")
    start, end = source.index("  const arc"), source.index("  function element")
    return f"(() => {{ {source[start:end]} return EXAMPLES; }})()"


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("name", BOOK_MODELS)
def test_all_test_images_get_torchs_logits(name):
    if not available("mnist"):
        pytest.skip("needs MNIST: set QTLITE_DATA")
    mnist, path = load_dataset("mnist"), BOOK / "models" / f"{name}.json"
    model = load_classifier(path)
    images = mnist.test_images.numpy()
    logits = np.array(classify_in_node(path, images, sizes=(), repeats=0)["logits"])
    expected = np.concatenate([model.logits(part) for part in np.split(images, 10)])
    assert np.abs(logits - expected).max() < 1e-4
    assert (logits.argmax(1) == expected.argmax(1)).all()
    right = logits.argmax(1) == mnist.test_labels.numpy()
    assert right.mean() == float(model.about["accuracy"])


@needs_node
def test_other_sizes_padding_and_no_preprocessing(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, (3, 5), padding=2), nn.MaxPool2d(3), nn.ReLU(), nn.Flatten(),
        nn.Linear(3 * 3 * 2, 4),
    )  # fmt: skip
    pixels = torch.randint(256, (1, 2, 9, 8), dtype=torch.uint8)
    for given in (network, FromPixels(network, 0.3, 0.2)):
        content = json.loads(save_json(given, tmp_path / "a.json", overwrite=True).read_text())
        found = run_node(
            "Array.from(network.logits(network.readModel(given[0]), given[1], [2, 9, 8]))",
            content,
            pixels.flatten().tolist(),
        )
        scaled = pixels / 255 if given is network else pixels
        expected = given(scaled).flatten().tolist()
        assert found == pytest.approx(expected, abs=1e-5)


@needs_node
@pytest.mark.parametrize("name", BOOK_MODELS)
def test_every_example_is_the_digit_it_stands_for(name):
    model = json.loads((BOOK / "models" / f"{name}.json").read_text())
    found = run_node(
        f"{examples()}.map((strokes) => Array.from("
        "network.logits(network.readModel(given[0]), network.toMnist(strokes))))",
        model,
    )
    assert [int(np.argmax(logits)) for logits in found] == list(range(10))


@needs_node
def test_drawings_are_centred_as_in_mnist():
    stroke = [[60, 5], [90, 5], [90, 25]]
    (image, moved, larger) = (
        np.array(run_node("Array.from(network.toMnist(given[0]))", [strokes])).reshape(28, 28)
        for strokes in (
            stroke,
            [[x - 55, y + 60] for x, y in stroke],
            [[2.5 * (x - 60), 2.5 * y] for x, y in stroke],
        )
    )
    np.testing.assert_array_equal(image, moved)
    np.testing.assert_array_equal(image, larger)
    columns, rows = np.nonzero(image.sum(0))[0], np.nonzero(image.sum(1))[0]
    assert 20 <= columns[-1] - columns[0] + 1 <= 22  # a soft edge on either side
    assert rows[-1] - rows[0] < columns[-1] - columns[0]
    middle = np.arange(28) + 0.5
    for axis in (0, 1):
        assert image.sum(axis) @ middle / image.sum() == pytest.approx(14, abs=0.05)
    assert image.max() == 255


@needs_node
def test_empty_and_tiny_drawings():
    empty, dot = run_node("given.map((s) => Array.from(network.toMnist(s)))", [], [[[50, 50]]])
    assert not any(empty)
    assert 0 < np.count_nonzero(dot) < 30


@needs_node
def test_the_picture_of_a_three_is_the_example():
    pixels = run_node(f"Array.from(network.toMnist({examples()}[3]))")
    stored = np.asarray(Image.open(BOOK / "_static" / "draw-3.png"))
    np.testing.assert_array_equal(np.array(pixels).reshape(28, 28), stored)


@needs_node
def test_wrong_models_are_refused():
    def message(content):
        return run_node(
            "(() => { try { network.readModel(given[0]); } catch (e) { return e.message; } })()",
            content,
        )

    assert "must be qtlite-network 1, got other 1" in message({"format": "other", "version": 1})
    layer = {"type": "linear", "weight": {"shape": [2], "data": "AAAA"}}
    content = {"format": "qtlite-network", "version": 1, "layers": [layer]}
    assert message(content) == "3 bytes for shape 2"


def test_what_the_book_says_was_measured_is_of_its_models():
    found = read_measurement(BOOK / "measurements" / "export-javascript.json")["results"]
    int8 = read_measurement(BOOK / "measurements" / "export-int8.json")["results"]
    for name in BOOK_MODELS:
        accuracy = float(load_classifier(BOOK / "models" / f"{name}.onnx").about["accuracy"])
        for engine in found["engines"]:
            ours = found["models"][name][engine]
            assert ours["accuracy"] == accuracy, "python -m benchmarks.export measures again"
            assert ours["n_other_class"] == 0
            assert ours["largest_difference"] < 1e-4
        assert int8[name]["float32"]["accuracy"] == accuracy
