"""Five programs that read a tiny file: each gives the classes of the same images."""

import base64
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from qtlite.experiments.bits.tiny_file import read_tiny
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.models.tiny_model import model_of, tiny_config
from qtlite.export import FromPixels, open_onnx, save_onnx

BOOK = Path(__file__).parents[1] / "book"
STATIC = BOOK / "_static"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CLASSES = """(bytes, images, network, readTiny) => {
    const model = readTiny(bytes);
    return Array.from({ length: images.length / 784 }, (_, i) => {
        const scores = network.logits(model, images.subarray(784 * i, 784 * (i + 1)));
        return scores.indexOf(Math.max(...scores));
    });
}"""


def by_qtlite(path, images):
    """PyTorch, float32."""
    return load_classifier(path).logits(images[:, None]).argmax(1)


def by_numpy(path, images):
    """The listed example, which imports NumPy alone, float64."""
    spec = importlib.util.spec_from_file_location("listed", BOOK / "read_tiny.py")
    listed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listed)
    network = listed.read(path.read_bytes())
    parts = np.array_split(images, max(1, len(images) // 100))
    return np.concatenate([listed.scores(*network, part).argmax(1) for part in parts])


def by_onnx(path, images):
    """ONNX Runtime, from the file that the tiny file's network is exported to."""
    tiny = read_tiny(path)
    config = tiny_config(tiny)
    plain = model_of(tiny).to_classical().eval()
    network = FromPixels(plain, config.pixel_mean, config.pixel_std)
    with tempfile.TemporaryDirectory() as folder:
        written = save_onnx(
            network, torch.from_numpy(images[:2, None]), Path(folder) / "a.onnx", {}
        )
        session = open_onnx(written)
        return session.run(None, {"input": images[:, None]})[0].argmax(1)


def by_node(path, images):
    """tiny.js and draw-network.js under Node."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "images"
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


def by_chromium(path, images):
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


READERS = {
    "qtlite": by_qtlite,
    "NumPy": by_numpy,
    "ONNX": by_onnx,
    "Node": by_node,
    "Chromium": by_chromium,
}
