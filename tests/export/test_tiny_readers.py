"""Programs that read the book's tiny files give the same classes, and damaged files no class."""

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qtlite.experiments.bits.tiny_file import read_tiny
from qtlite.experiments.data.loading import available, load_dataset
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.models.tiny_model import model_of, tiny_config
from qtlite.experiments.records import read_runs
from qtlite.export import FromPixels, open_onnx, save_onnx

BOOK = Path(__file__).parents[2] / "book"
STATIC = BOOK / "_static"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CLASSES = """(bytes, images, network, readTiny) => {
    const model = readTiny(bytes);
    return Array.from({ length: images.length / 784 }, (_, i) => {
        const scores = network.logits(model, images.subarray(784 * i, 784 * (i + 1)));
        return scores.indexOf(Math.max(...scores));
    });
}"""


def by_numpy(path, images, folder):
    """The listed example, which imports NumPy alone, float64."""
    spec = importlib.util.spec_from_file_location("listed", BOOK / "read_tiny.py")
    listed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listed)
    network = listed.read(path.read_bytes())
    parts = np.array_split(images, max(1, len(images) // 100))
    return np.concatenate([listed.scores(*network, part).argmax(1) for part in parts])


def by_onnx(path, images, folder):
    """ONNX Runtime, from the file that the tiny file's network is exported to."""
    tiny = read_tiny(path)
    config = tiny_config(tiny)
    plain = model_of(tiny).to_classical().eval()
    network = FromPixels(plain, config.pixel_mean, config.pixel_std)
    written = save_onnx(network, torch.from_numpy(images[:2, None]), folder / "a.onnx")
    return open_onnx(written).run(None, {"input": images[:, None]})[0].argmax(1)


def by_node(path, images, folder):
    """tiny.js and draw-network.js under Node."""
    stored = folder / "images"
    stored.write_bytes(images.tobytes())
    program = f"""
        const fs = require("fs");
        const {{ readTiny }} = require({str(STATIC / "tiny.js")!r});
        const network = require({str(STATIC / "draw-network.js")!r});
        const read = (name) => new Uint8Array(fs.readFileSync(name));
        const [bytes, images] = [read({str(path)!r}), read({str(stored)!r})];
        process.stdout.write(({CLASSES})(bytes, images, network, readTiny).join(" "));
    """
    node = shutil.which("node")
    found = subprocess.run([node, "-e", program], check=True, capture_output=True, text=True)
    return np.array(found.stdout.split(), dtype=int)


def by_chromium(path, images, folder):
    """The page's scripts in Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)))
    with sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for name in ("playground/random", "playground/engine", "tiny", "draw-network"):
            page.add_script_tag(path=STATIC / f"{name}.js")
        program = f"""([bytes, images]) => {{
            const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const {{ readTiny }} = qtliteTiny(qtlitePlaygroundRandom(), qtlitePlaygroundEngine());
            return ({CLASSES})(unpack(bytes), unpack(images), qtliteNetwork, readTiny);
        }}"""
        given = [base64.b64encode(b).decode() for b in (path.read_bytes(), images.tobytes())]
        found = page.evaluate(program, given)
        browser.close()
    return np.array(found)


READERS = {"NumPy": by_numpy, "ONNX": by_onnx, "Node": by_node, "Chromium": by_chromium}
FILES = sorted((BOOK / "models").glob("*.qt"))


@pytest.fixture(scope="module")
def images():
    """Digits of another dataset, also of 28 x 28 pixels: a network has to give them some class."""
    return load_dataset("digits").test_images[:200, 0].numpy()


def test_there_is_a_file_for_each_dataset():
    assert {read_tiny(path).dataset for path in FILES} == {"mnist", "fashion_mnist"}


def agree(reader, path, images, folder):
    if reader == "Node" and shutil.which("node") is None:
        pytest.skip("needs node on PATH")
    expected = load_classifier(path).logits(images[:, None]).argmax(1)
    assert len(np.unique(expected)) > 5
    assert (READERS[reader](path, images, folder) == expected).all()


@pytest.mark.parametrize("reader", ["NumPy", "ONNX", "Node"])
def test_readers_agree(reader, images, tmp_path):
    agree(reader, FILES[0], images, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("reader", READERS)
def test_readers_agree_on_all_test_images(reader, path, tmp_path):
    tiny = read_tiny(path)
    if not available(tiny.dataset):
        pytest.skip(f"needs {tiny.dataset}: set QTLITE_DATA")
    dataset = load_dataset(tiny.dataset)
    agree(reader, path, dataset.test_images[:, 0].numpy(), tmp_path)


def test_the_file_is_that_of_its_record():
    runs = read_runs(BOOK / "records").query("model == 'qt' and n_validation == 0")
    for path in FILES:
        tiny = read_tiny(path)
        values = {
            "dataset": tiny.dataset,
            "n_blocks": len(tiny.blocks),
            "seed": tiny.seed,
            "grid": "-".join(str(4 * step) for step in tiny.grid),
            "hidden": "-".join(map(str, tiny.hidden)),
        }
        found = runs[(runs[list(values)] == values).all(axis=1)]
        assert found.file_bytes.tolist() == [path.stat().st_size]


def test_the_listed_reader_prints_classes(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, BOOK / "read_tiny.py", FILES[0], tmp_path / "images.npy"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = load_classifier(FILES[0]).logits(images[:, None]).argmax(1)
    assert [int(line) for line in printed.split()] == expected.tolist()


def test_the_listed_reader_refuses_damaged_files(tmp_path):
    content = bytearray(FILES[0].read_bytes())
    content[100] ^= 1
    path = tmp_path / "a.qt"
    for damaged in (content, content[:-1], b"\x89PNG" + bytes(300), b""):
        path.write_bytes(damaged)
        command = [sys.executable, BOOK / "read_tiny.py", path, path]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1] == (
            "ValueError: file must be a whole tiny file of version 2, got another"
        )


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node on PATH")
def test_the_page_refuses_damaged_files():
    content = FILES[0].read_bytes()
    program = f"""
        const {{ readTiny }} = require({str(BOOK / "_static" / "tiny.js")!r});
        const content = new Uint8Array(require("fs").readFileSync({str(FILES[0])!r}));
        const answer = (bytes) => {{
            try {{ readTiny(bytes); return "read"; }} catch (error) {{ return error.message; }}
        }};
        const flipped = Array.from({{ length: 8 * content.length }}, (_, bit) => {{
            const changed = content.slice();
            changed[bit >> 3] ^= 1 << (bit & 7);
            return answer(changed);
        }});
        const cut = Array.from(content, (_, n) => answer(content.slice(0, n)));
        process.stdout.write(JSON.stringify([answer(content), flipped, cut]));
    """
    run = subprocess.run(["node", "-e", program], check=True, capture_output=True, text=True)
    whole, flipped, cut = json.loads(run.stdout)
    assert whole == "read"
    assert set(flipped) == {
        "it is not a tiny file", "its version is not 2", "its checksum is wrong",
    }  # fmt: skip
    assert set(cut) == {"it is not a tiny file", "its checksum is wrong"}
    assert len(flipped) == 8 * len(content)


def test_a_qr_code_holds_the_file():
    segno, zxing = pytest.importorskip("segno"), pytest.importorskip("zxingcpp")
    from PIL import Image

    for path in FILES:
        picture = io.BytesIO()
        segno.make(path.read_bytes(), error="l", micro=False).save(picture, kind="png", scale=4)
        found = zxing.read_barcodes(Image.open(picture))
        assert [code.bytes for code in found] == [path.read_bytes()]
