"""What the exported models of the book give, where a page cannot measure it itself.

``python -m benchmarks.export`` writes book/measurements/export-int8.json and
export-javascript.json. It needs MNIST (QTLITE_DATA), Node, Chromium and playwright; a few minutes
on one core. Give it again after ``qtlite export --book``.
"""

from __future__ import annotations

import base64
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.inference.model_files import BOOK_MODELS, N_CALIBRATION
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.records.measurements import take_measurement, write_measurement
from qtlite.export import quantise_onnx

BOOK = Path(__file__).resolve().parents[1] / "book"
NETWORK_JS = BOOK / "_static" / "draw-network.js"
SIZES = (1, 1000)  # images at once
REPEATS = 7
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# run by Node and by Chromium alike: logits of all images, and seconds for the first n
CLASSIFY = """
(content, text, sizes, repeats, now) => {
  const model = qtliteNetwork.readModel(content);
  const pixels = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const image = (i) => pixels.subarray(784 * i, 784 * (i + 1));
  const logits = [];
  for (let i = 0; i < pixels.length / 784; i++) {
    logits.push(Array.from(qtliteNetwork.logits(model, image(i))));
  }
  const seconds = sizes.map((n) => {
    const inner = Math.max(1, Math.ceil(200 / n)); // a browser's clock is coarse
    return Array.from({ length: repeats }, () => {
      const start = now();
      for (let k = 0; k < inner; k++) {
        for (let i = 0; i < n; i++) qtliteNetwork.logits(model, image(k + i));
      }
      return (now() - start) / 1000 / inner;
    });
  });
  return { logits, seconds };
}
"""


def classify_in_node(
    model: Path, images: np.ndarray, sizes: Sequence[int] = SIZES, repeats: int = REPEATS
) -> dict[str, Any]:
    """Run a JSON model under Node.

    Args:
        model: what ``save_json`` wrote.
        images: uint8, shape (n, 1, 28, 28), n >= 200.
        sizes: numbers of images to time, each at most n.
        repeats: of each timing.

    Returns:
        ``logits``, shape (n, classes); ``seconds``, shape (len(sizes), repeats).
    """
    script = f"""
        const fs = require("fs");
        global.qtliteNetwork = require({json.dumps(str(NETWORK_JS))});
        const [content, text] = process.argv.slice(-2).map((path) => fs.readFileSync(path, "utf8"));
        const found = ({CLASSIFY})(
          JSON.parse(content), text, {list(sizes)}, {repeats}, () => performance.now());
        process.stdout.write(JSON.stringify(found));
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels"
        pixels.write_text(base64.b64encode(images.tobytes()).decode())
        run = subprocess.run(
            ["node", "-e", script, str(model), str(pixels)],
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(run.stdout)


def classify_in_page(
    page: Any, model: Path, images: np.ndarray, sizes: Sequence[int] = SIZES, repeats: int = REPEATS
) -> dict[str, Any]:
    """The same in a page of a browser (playwright's)."""
    page.add_script_tag(path=NETWORK_JS)
    return page.evaluate(
        "([content, text, sizes, repeats]) => "
        f"({CLASSIFY})(content, text, sizes, repeats, () => performance.now())",
        [
            json.loads(model.read_text(encoding="utf-8")),
            base64.b64encode(images.tobytes()).decode(),
            list(sizes),
            repeats,
        ],
    )


def measure_javascript(models: Sequence[str], sizes: Sequence[int], repeats: int, seed: int) -> Any:
    """Agreement with PyTorch on the test images, and times, under Node and in Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)))
    dataset = load_dataset("mnist")
    images, labels = dataset.test_images.numpy(), dataset.test_labels.numpy()
    results: dict[str, Any] = {}
    with sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
        versions = {"node": node.stdout.strip(), "Chromium": browser.version}
        for name in models:
            path = BOOK / "models" / f"{name}.json"
            expected = load_classifier(path).logits(images)
            for engine in versions:
                if engine == "node":
                    found = classify_in_node(path, images, sizes, repeats)
                else:
                    found = classify_in_page(page, path, images, sizes, repeats)
                logits = np.array(found["logits"])
                results.setdefault(name, {})[engine] = {
                    "accuracy": float((logits.argmax(1) == labels).mean()),
                    "n_other_class": int((logits.argmax(1) != expected.argmax(1)).sum()),
                    "largest_difference": float(np.abs(logits - expected).max()),
                    "median_s": {
                        str(n): statistics.median(times)
                        for n, times in zip(sizes, found["seconds"], strict=True)
                    },
                }
        browser.close()
    return {"engines": versions, "models": results}


def measure_int8(models: Sequence[str], n_calibration: int, seed: int) -> Any:
    """Size and test accuracy of each .onnx file before and after quantisation."""
    dataset = load_dataset("mnist")
    images, labels = dataset.test_images.numpy(), dataset.test_labels.numpy()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            whole = BOOK / "models" / f"{name}.onnx"
            small = Path(folder) / f"{name}.int8.onnx"
            quantise_onnx(whole, small, dataset.train_images[:n_calibration].numpy())
            results[name] = {
                kind: {
                    "accuracy": float(
                        (load_classifier(path).logits(images).argmax(1) == labels).mean()
                    ),
                    "n_bytes": path.stat().st_size,
                }
                for kind, path in (("float32", whole), ("int8", small))
            }
    return results


def main() -> None:
    """Take both measurements and write them."""
    folder, models = BOOK / "measurements", list(BOOK_MODELS)
    config: dict[str, Any] = {"models": models, "n_calibration": N_CALIBRATION, "seed": 0}
    print(write_measurement(take_measurement("export-int8", measure_int8, config), folder))
    config = {"models": models, "sizes": list(SIZES), "repeats": REPEATS, "seed": 0}
    measured = take_measurement("export-javascript", measure_javascript, config)
    print(write_measurement(measured, folder))


if __name__ == "__main__":
    main()
