"""Programs that read the book's tiny files give the same classes, and damaged files no class."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_readers import BOOK, READERS

from qtlite.experiments.bits.tiny_file import read_tiny
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.records import read_runs

MODELS = BOOK / "models"
FILES = sorted(MODELS.glob("*.qt"))


@pytest.fixture(scope="module")
def images():
    """Digits of another dataset, also of 28 x 28 pixels: a network has to give them some class."""
    return load_dataset("digits").test_images[:200, 0].numpy()


def test_there_is_a_file_for_each_dataset():
    assert {read_tiny(path).dataset for path in FILES} == {"mnist", "fashion_mnist"}


@pytest.mark.parametrize("reader", ["NumPy", "ONNX", "Node"])  # all five: tests/prove
def test_readers_agree(reader, images):
    if reader == "Node" and shutil.which("node") is None:
        pytest.skip("needs node on PATH")
    for path in FILES:
        expected = load_classifier(path).logits(images[:, None]).argmax(1)
        assert len(np.unique(expected)) > 5
        assert (READERS[reader](path, images) == expected).all()


def test_the_file_is_that_of_its_record():
    runs = read_runs(BOOK / "records").query("model == 'qt' and n_validation == 0")
    for path in FILES:
        tiny = read_tiny(path)
        values = {
            "dataset": tiny.dataset,
            "n_blocks": tiny.n_blocks,
            "seed": tiny.seed,
            "grid": "-".join(map(str, tiny.grid)),
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
            "ValueError: file must be a whole tiny file of version 1, got another"
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
        "it is not a tiny file", "its version is not 1", "its checksum is wrong",
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
