"""Crafted files of every format that is read: refused in one line, without running any of them.

All are sealed, so that no checksum stands in their way. Another process reads them; it measures
its memory and time, and an audit hook sees which files it opens and what code it runs.
"""

import json
import subprocess
import sys

import numpy as np
import torch
from crafted import ABOUT, CRAFTED, ESCAPE, GOOD, NAN, onnx_file, png, write_sealed, zeros
from hostile.files import edited, unsealed
from PIL import Image
from refusals import refused

from qtlite import QuantumTrain
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import FORMATS, FromPixels, save_compressed, save_json, save_safetensors
from qtlite.export.checks import MAX_NUMBERS, MAX_PRODUCTS, check_cost
from qtlite.export.seal import OPEN_SEAL

READER = """
import json, resource, sys, time
from pathlib import Path
import numpy as np, torch
from qtlite.experiments.inference.predict import load_classifier, read_images
torch.set_num_threads(1)
BAD = {"open", "exec", "pickle.find_class", "subprocess.Popen", "os.system", "ctypes.dlopen"}
events, watching = [], [None]
def hook(event, arguments):
    if watching[0] and event in BAD and str(arguments[0]) != watching[0]:
        events.append(f"{event} {arguments[0]!s:.200}")
sys.addaudithook(hook)
def read(path):
    if path.suffix in (".npy", ".png", ".jpg"):
        return read_images(path, (1, 28, 28))
    return load_classifier(path).logits(np.zeros((1, 1, 28, 28), np.uint8))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
good, crafted = map(Path, sys.argv[1:])
for path in sorted(good.iterdir()):
    read(path)  # all imports are done, and the networks' own memory is counted
found = {}
for path in sorted(crafted.iterdir()):
    events.clear()
    before, start, error = peak(), time.monotonic(), None
    watching[0] = str(path)
    try:
        read(path)
    except BaseException as caught:
        error = caught
    watching[0] = None
    found[path.name] = {
        "error": type(error).__name__, "text": str(error), "events": list(events),
        "seconds": time.monotonic() - start, "megabytes": peak() - before,
    }
print(json.dumps(found))
"""
COMPRESSED = {  # what is changed of a compressed form
    "other-feature": 'options/feature="raw"',
    "other-bits": "options/bit_values=[0.0, 1.0]",
    "other-activation": 'options/activation="first"',
    "other-normalisation": 'options/normalisation="tensor"',
    "other-scale": "scales/9.weight/scale=0.2",
    "other-centre": "scales/9.bias/centre=0.01",
    "unknown-scale": "scales={}",
    "rows-off": "scales/0.weight/has_rows=false",
    "huge-scale": "scales/9.weight/scale=1e300",
    "many-blocks": "options/n_blocks=1000000000000",
    "more-blocks": "options/n_blocks=3",
    "no-angles": "options/angles_per_block=0",
    "many-angles": "options/angles_per_block=1000000000000",
    "wide": "options/hidden=[1000000000, 1000000000]",
    "long": f"options/hidden={[1] * 10**5}",
    "negative": "options/hidden=[-1]",
    "unknown-option": 'options/qnn="os.system"',
    "escape-feature": f"options/feature={json.dumps(ESCAPE)}",
    "escape-block": f"block={json.dumps(ESCAPE)}",
    "escape-name": f"shapes={json.dumps({ESCAPE: [1]})}",
    "huge-shape": "shapes/0.weight=[1099511627776, 1099511627776]",
    "short-fingerprint": "fingerprint/0.weight=[1.0]",
    "no-fingerprint": "fingerprint={}",
}


def write_good_files(folder):
    """A file of each format."""
    torch.manual_seed(0)
    network = paper_cnn("mnist")
    save_json(FromPixels(network, 0.1, 0.3), folder / "a.json", ABOUT)
    save_safetensors(network, folder / "a.safetensors", ABOUT)
    save_compressed(QuantumTrain(network, 2), folder / "a.angles.safetensors", ABOUT)
    other = QuantumTrain(network, 2, normalisation="tensor")
    save_compressed(other, folder / "b.angles.safetensors", ABOUT)  # its compiled loops are loaded
    write_sealed(
        folder / "a.onnx", onnx_file(GOOD, output="float[batch, 10] output", w=zeros(784, 10))
    )
    np.save(folder / "a.npy", np.zeros((28, 28), np.uint8))
    (folder / "a.png").write_bytes(png())
    Image.new("L", (28, 28)).save(folder / "a.jpg")


def crafted_files(good):
    """The content of each crafted file by name."""
    whole = (good / "a.safetensors").read_bytes()
    compressed = (good / "a.angles.safetensors").read_bytes()
    files = {"onnx-int8.int8.onnx": OPEN_SEAL.encode(), "torch.pt2": b"PK\x03\x04"}
    for name, content in (("safetensors", whole), ("angles.safetensors", compressed)):
        files[f"nan.{name}"] = unsealed(content[:-4] + NAN)
        files[f"integers.{name}"] = unsealed(content.replace(b'"F32"', b'"I32"'))
    for name, change in COMPRESSED.items():
        content = edited(compressed, ".safetensors", f"__metadata__/quantum_train/{change}")
        files[f"compressed-{name}.angles.safetensors"] = unsealed(content)
    for kind, contents in CRAFTED.items():
        files |= {f"{kind}-{name}.{kind}": content for name, content in contents().items()}
    return files


def test_a_crafted_file_is_refused_in_one_line(tmp_path):
    good, crafted = tmp_path / "good", tmp_path / "crafted"
    good.mkdir()
    crafted.mkdir()
    write_good_files(good)
    files = crafted_files(good)
    for kind in FORMATS.values():
        assert any(name.endswith(kind.ending) for name in files), kind.name
    for name, content in files.items():
        write_sealed(crafted / name, content)
    command = [sys.executable, "-c", READER, str(good), str(crafted)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / "CODE_RAN").exists()
    assert "\x1b" not in run.stderr
    found = json.loads(run.stdout)
    assert found.keys() == files.keys()
    for name, result in found.items():
        assert result["error"] == "ValueError", (name, result)
        assert result["text"].isprintable(), (name, result)
        assert len(result["text"]) < 2000, (name, result)
        assert name in result["text"], (name, result)
        assert result["events"] == [], (name, result)
        assert result["seconds"] < 5, (name, result)
        megabytes = (crafted / name).stat().st_size / 2**20
        assert result["megabytes"] < 150 + 10 * megabytes, (name, result)


def test_cost_has_limits():
    check_cost(MAX_NUMBERS, MAX_PRODUCTS)
    for cost in ((MAX_NUMBERS + 1, 0), (0, MAX_PRODUCTS + 1)):
        refused("network must take at most 16,777,216 numbers and", check_cost, *cost)
