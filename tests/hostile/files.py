"""Good files, and malformed copies of them, each named by what is wrong with it.

====================================  ====================================================
name                                  content
====================================  ====================================================
``net.json``                          the good file
``net.json:layers/0/size=-1``         one value replaced, by JSON
``net.json:-layers``                  one key removed
``checkpoint.pt:={**it, "model": 3}``  the value of an expression, in which ``it`` is the good
                                      content
``net.json:cut=100``                  the first 100 bytes
``net.json:text=[1, 2``               this text in place of the content
``net.json!deep``                     of ``BYTES`` below, or a crafted file of ``crafted.py``
====================================  ====================================================

What is changed is sealed again. The keys are those of a .safetensors file's header, a checkpoint,
and an .onnx file's metadata; JSON inside a string is opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from crafted import CRAFTED, RunsCode, write_sealed

from qtlite.export.seal import MARK, OPEN_SEAL

ROOT = Path(__file__).parents[2]
TRAIN = ["train", "--quiet", "--n-train", "64", "--epochs", "1", "--blocks", "2"]
IN_A_RUN = ("checkpoint.pt", "classical.safetensors")  # files that lie in a run's folder


def make_good_files(folder: Path) -> None:
    """Write every good file that a case names: a trained run, models, pictures, lists."""
    from qtlite.experiments.cli import main

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main([*TRAIN, "--runs", str(folder / "runs")]) == 0
    (run,) = (folder / "runs").iterdir()
    for name in ("record.json", *IN_A_RUN):
        shutil.copy(run / name, folder / name)
    with redirect_stdout(io.StringIO()):
        command = ["export", run.name, "--runs", str(folder / "runs"), "--folder", str(folder)]
        assert main([*command, "--name", "net", "--to", "safetensors", "compressed"]) == 0
    models = ROOT / "book" / "models"
    shutil.copy(models / "mnist-classical.json", folder / "net.json")
    shutil.copy(models / "mnist-classical.onnx", folder / "net.onnx")
    records = sorted((ROOT / "book" / "records").glob("mnist-qt-qtlite-L16-s0-*.json"))
    shutil.copy(records[0], folder / "mnist.json")
    (folder / "tables").mkdir()
    shutil.copy(records[0], folder / "tables")
    shutil.copy(ROOT / "book" / "measurements" / "shots-mnist-L16.json", folder)
    old = ("mnist.json", "shots-mnist-L16.json")  # from before there were checksums in such files
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in old]
    sums = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, old, strict=True))
    (folder / "SHA256SUMS").write_text(sums)
    entries = [{"dataset": "digits", "n_blocks": 2, "n_train": 64, "epochs": 1}]
    (folder / "sweep.json").write_text(json.dumps(entries))
    pixels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    for name in ("good.png", "good.jpg"):
        Image.fromarray(pixels).save(folder / name)
    np.save(folder / "good.npy", pixels)
    (folder / "page.md").write_text("no marks here\n")


def run_name(good: Path) -> str:
    """The id of the run among the good files."""
    return next((good / "runs").iterdir()).name


def make_file(spec: str, good: Path, folder: Path) -> Path:
    """Write the file that a name such as ``net.json:-layers`` stands for.

    Args:
        spec: see the module's table.
        good: what ``make_good_files`` filled.
        folder: new; the file keeps the good one's name in it, and a file of a run its place.
    """
    name, sign, change = re.fullmatch(r"([^:!]*)([:!]?)(.*)", spec, re.DOTALL).groups()
    place = folder / "runs" / run_name(good) if name in IN_A_RUN else folder
    place.mkdir(parents=True, exist_ok=True)
    path = place / name
    if name in IN_A_RUN:
        for other in IN_A_RUN:
            shutil.copy(good / other, place / other)
    content = (good / name).read_bytes() if (good / name).exists() else b""
    if change == "folder":
        path.mkdir()
    elif change.startswith("text="):
        path.write_text(change[5:], encoding="utf-8")
    elif change.startswith("cut="):
        path.write_bytes(content[: int(change[4:])])
    elif sign == "!" and change in BYTES:
        write_sealed(path, BYTES[change](content))
    elif sign == "!":
        write_sealed(path, CRAFTED[path.suffix[1:]]()[change])
    elif change:
        write_sealed(path, unsealed(edited(content, path.suffix, change)))
    else:
        path.write_bytes(content)
    return path


def unsealed(content: bytes) -> bytes:
    """The content with a place for its checksum, to be sealed again."""
    return re.sub(MARK.encode() + rb"[0-9a-f]{64}", OPEN_SEAL.encode(), content)


def edited(content: bytes, ending: str, change: str) -> bytes:
    """The content of a file after a change such as ``layers/0/size=-1``."""
    it = _read(content, ending)
    removed = change.startswith("-")
    key, _, text = change.removeprefix("-").partition("=")
    if key:
        _set(it, key.split("/"), None if removed else json.loads(text), removed)
    else:
        it = eval(text, {"it": it, "np": np, "torch": torch, "Image": Image, "json": json})
    return _write(it, content, ending)


def _read(content: bytes, ending: str) -> Any:
    if ending == ".json":
        return json.loads(content)
    if ending == ".safetensors":
        return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if ending == ".pt":
        return torch.load(io.BytesIO(content), weights_only=True)
    if ending == ".onnx":
        return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    return None


def _write(it: Any, content: bytes, ending: str) -> bytes:
    stream = io.BytesIO()
    if ending == ".json":
        return json.dumps(it).encode()
    if ending == ".safetensors":
        text = json.dumps(it).encode()
        body = content[8 + int.from_bytes(content[:8], "little") :]
        return len(text).to_bytes(8, "little") + text + body
    if ending == ".onnx":
        model = onnx.load_from_string(content)
        onnx.helper.set_model_props(model, it)
        return model.SerializeToString()
    if ending == ".pt":
        torch.save(it, stream)
    elif ending == ".npy":
        np.save(stream, it, allow_pickle=True)
    else:
        it.save(stream, format={".png": "png", ".jpg": "jpeg"}[ending])
    return stream.getvalue()


def _set(document: Any, keys: list[str], value: Any, remove: bool) -> None:
    key = int(keys[0]) if isinstance(document, list) else keys[0]
    if len(keys) > 1 and isinstance(document[key], str):  # JSON in a string
        opened = json.loads(document[key])
        _set(opened, keys[1:], value, remove)
        document[key] = json.dumps(opened)
    elif len(keys) > 1:
        _set(document[key], keys[1:], value, remove)
    elif remove:
        del document[key]
    else:
        document[key] = value


def _flipped(good: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(good) // 2
    return good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]


def _last_number(number: float) -> Callable[[bytes], bytes]:
    """The last tensor's last number is another."""
    return lambda good: unsealed(good[:-4] + struct.pack("<f", number))


def _saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, pickle_protocol=2)
    return stream.getvalue()


def _two_directories(good: bytes) -> bytes:
    """A second zip directory, which some readers prefer to the first."""
    second = io.BytesIO()
    with zipfile.ZipFile(second, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(RunsCode()))
        archive.writestr("archive/version", "3")
    return good + second.getvalue()


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "zeros": lambda good: bytes(1000),
    "noise": lambda good: np.random.default_rng(0).bytes(5000),
    "deep": lambda good: b"[" * 100_000,
    "latin1": lambda good: '{"id": "K\xf6ln"}'.encode("latin-1"),
    "utf16": lambda good: good.decode().encode("utf-16"),
    "bom": lambda good: b"\xef\xbb\xbf" + good,
    "digits": lambda good: b'{"id": ' + b"9" * 5000 + b"}",
    "twice": lambda good: good + good,
    "flipped": _flipped,
    "nan": _last_number(float("nan")),
    "inf": _last_number(float("inf")),
    "runs-code": lambda good: _saved({"model": RunsCode()}),
    "plain-pickle": lambda good: pickle.dumps({"config": {}}),
    "two-directories": _two_directories,
}
