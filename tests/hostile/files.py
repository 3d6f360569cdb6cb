"""Good files, and malformed copies of them, each named by what is wrong with it.

==============================  ===================================================
name                            content
==============================  ===================================================
``net.json``                    the good file
``net.json:layers/0/size=-1``   one value replaced, by JSON; sealed again
``net.json:-layers``            one key removed; sealed again
``net.json:cut=100``            the first 100 bytes
``net.json:text=[1, 2``         this text in place of the content
``net.json!deep``               made by a function of ``SPECIAL``
==============================  ===================================================

In a .safetensors file, the keys are those of its header; JSON inside a string is opened.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qtlite.export.seal import OPEN_SEAL, seal_file

ROOT = Path(__file__).parents[2]
TRAIN = ["train", "--quiet", "--n-train", "64", "--epochs", "1", "--blocks", "2"]
IN_A_RUN = ("checkpoint.pt", "classical.safetensors")  # files that lie in a run's folder


def make_good_files(folder: Path) -> None:
    """Write every good file that a case names: a trained run, models, pictures, lists."""
    from PIL import Image

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
    name = spec.partition(":")[0].partition("!")[0]
    place = folder / "runs" / run_name(good) if name in IN_A_RUN else folder
    place.mkdir(parents=True, exist_ok=True)
    path = place / name
    if name in IN_A_RUN:
        for other in IN_A_RUN:
            shutil.copy(good / other, place / other)
    content = (good / name).read_bytes() if (good / name).exists() else b""
    change = spec[len(name) :]
    if change.startswith("!"):
        SPECIAL[change[1:]](path, content)
    elif change.startswith(":text="):
        path.write_text(change[6:], encoding="utf-8")
    elif change.startswith(":cut="):
        path.write_bytes(content[: int(change[5:])])
    else:
        path.write_bytes(content)
        if change:
            _edit(path, change[1:])
    return path


def _edit(path: Path, change: str) -> None:
    remove = change.startswith("-")
    key, _, text = change.removeprefix("-").partition("=")
    value = None if remove else json.loads(text)
    content = path.read_bytes()
    if path.suffix == ".json":
        document = json.loads(content)
        _set(document, key.split("/"), value, remove)
        if isinstance(document, dict) and "seal" in document and key != "seal":
            document["seal"] = OPEN_SEAL
        path.write_text(json.dumps(document), encoding="utf-8")
        sealed = OPEN_SEAL in path.read_text(encoding="utf-8")
    else:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        _set(header, key.split("/"), value, remove)
        about = header.get("__metadata__")
        sealed = isinstance(about, dict) and "seal" in about and not key.endswith("/seal")
        if sealed:
            about["seal"] = OPEN_SEAL
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    if sealed:
        seal_file(path)


def _set(document: Any, keys: list[str], value: Any, remove: bool) -> None:
    key = int(keys[0]) if isinstance(document, list) else keys[0]
    if len(keys) > 1:
        inner = document[key]
        if isinstance(inner, str):  # JSON in a string
            opened = json.loads(inner)
            _set(opened, keys[1:], value, remove)
            document[key] = json.dumps(opened)
        else:
            _set(inner, keys[1:], value, remove)
    elif remove:
        del document[key]
    else:
        document[key] = value


def _write(content: bytes) -> Callable[[Path, bytes], None]:
    return lambda path, good: path.write_bytes(content) and None


def _with_numbers(number: float) -> Callable[[Path, bytes], None]:
    """The last layer's bias full of one number, in net.json or a .safetensors file."""

    def special(path: Path, good: bytes) -> None:
        if path.suffix == ".json":
            document = json.loads(good)
            bias = document["layers"][-1]["bias"]
            bias["data"] = base64.b64encode(struct.pack("<10f", *[number] * 10)).decode()
            path.write_text(json.dumps(document | {"seal": OPEN_SEAL}))
        else:
            size = int.from_bytes(good[:8], "little")
            header = json.loads(good[8 : 8 + size])
            header["__metadata__"]["seal"] = OPEN_SEAL
            entry = next(v for k, v in reversed(header.items()) if k.endswith("bias"))
            first, last = (8 + size + offset for offset in entry["data_offsets"])
            numbers = struct.pack("<f", number) * ((last - first) // 4)
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            body = good[8 + size : first] + numbers + good[last:]
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        seal_file(path)

    return special


def _picture(mode: str, size: tuple[int, int], file_format: str | None = None, **options: Any):
    def special(path: Path, good: bytes) -> None:
        from PIL import Image

        Image.new(mode, size).save(path, format=file_format, **options)

    return special


def _oriented(path: Path, good: bytes) -> None:
    """A picture whose EXIF says that it lies upside down."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(io.BytesIO(good)).save(path, exif=exif)


def _declares(width: int, height: int) -> Callable[[Path, bytes], None]:
    """A .png of another size in its header, with a right checksum."""

    def special(path: Path, good: bytes) -> None:
        import zlib

        header = b"IHDR" + struct.pack(">II", width, height) + good[24:29]
        path.write_bytes(good[:12] + header + struct.pack(">I", zlib.crc32(header)) + good[33:])

    return special


def _array(make: Callable[[], np.ndarray]) -> Callable[[Path, bytes], None]:
    def special(path: Path, good: bytes) -> None:
        with path.open("wb") as stream:
            np.save(stream, make(), allow_pickle=True)

    return special


def _npy(header: bytes, body: bytes = b"") -> Callable[[Path, bytes], None]:
    text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return _write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)


class _Runs:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch CODE_RAN",)


def _checkpoint(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, bytes], None]:
    def special(path: Path, good: bytes) -> None:
        content = torch.load(io.BytesIO(good), weights_only=True)
        torch.save(change(content), path)

    return special


def _without(key: str) -> Callable[[Path, bytes], None]:
    return _checkpoint(lambda content: {k: v for k, v in content.items() if k != key})


def _with(key: str, value: Any) -> Callable[[Path, bytes], None]:
    return _checkpoint(lambda content: content | {key: value})


def _with_model(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, bytes], None]:
    return _checkpoint(lambda content: content | {"model": change(content["model"])})


def _two_directories(path: Path, good: bytes) -> None:
    """A second zip directory, which some readers prefer to the first."""
    second = io.BytesIO()
    with zipfile.ZipFile(second, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Runs()))
        archive.writestr("archive/version", "3")
    path.write_bytes(good + second.getvalue())


def _onnx(change: Callable[[Any], None]) -> Callable[[Path, bytes], None]:
    """net.onnx with a change in its graph, sealed again."""

    def special(path: Path, good: bytes) -> None:
        import onnx

        model = onnx.load_from_string(good)
        for entry in model.metadata_props:
            if entry.key == "seal":
                entry.value = OPEN_SEAL
        change(model)
        path.write_bytes(model.SerializeToString())
        if OPEN_SEAL.encode() in path.read_bytes():
            seal_file(path)

    return special


def _onnx_about(key: str, value: str | None) -> Callable[[Path, bytes], None]:
    def change(model: Any) -> None:
        kept = [(e.key, e.value) for e in model.metadata_props if e.key != key]
        del model.metadata_props[:]
        for name, text in [*kept, *([] if value is None else [(key, value)])]:
            entry = model.metadata_props.add()
            entry.key, entry.value = name, text

    return _onnx(change)


def _nan_weights(model: Any) -> None:
    first = model.graph.initializer[-1]
    n = len(first.raw_data) // 4
    first.raw_data = struct.pack("<f", float("nan")) * n


def _rename_input(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["other" if name == "input" else name for name in node.input]
    model.graph.input[0].name = "other"


def _wider_output(model: Any) -> None:
    for node in model.graph.node:
        node.output[:] = ["hidden" if name == "output" else name for name in node.output]
    node = model.graph.node.add()
    node.op_type = "Concat"
    node.input[:] = ["hidden", "hidden"]
    node.output[:] = ["output"]
    axis = node.attribute.add()
    axis.name, axis.i, axis.type = "axis", 1, 2
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 20


def _unknown_operation(model: Any) -> None:
    model.graph.node[0].op_type = "NoSuchOperation"


def _float_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 1


def _other_shape(model: Any) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_value = dims[3].dim_value = 5


def _missing_weight(model: Any) -> None:
    del model.graph.initializer[-1]


def _external_weight(model: Any) -> None:
    """A weight that is said to lie in another file of the machine."""
    tensor = model.graph.initializer[-1]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in (("location", "../../../../etc/passwd"), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _huge_output(model: Any) -> None:
    """A constant of 2^40 numbers, made by the graph itself."""
    import onnx

    shape = onnx.numpy_helper.from_array(np.array([2**20, 2**20], dtype=np.int64), "huge_shape")
    model.graph.initializer.append(shape)
    for node in model.graph.node:
        node.output[:] = ["hidden" if name == "output" else name for name in node.output]
    model.graph.node.add(op_type="ConstantOfShape", input=["huge_shape"], output=["huge"])
    model.graph.node.add(op_type="ReduceMax", input=["huge"], output=["top"])
    model.graph.node.add(op_type="Add", input=["hidden", "top"], output=["output"])


def _endless_loop(model: Any) -> None:
    """A loop of 2^62 rounds around nothing."""
    import onnx
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["goes_on_out"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("goes_on_out", TensorProto.BOOL, [])],
    )
    count = onnx.numpy_helper.from_array(np.array(2**62, dtype=np.int64), "rounds")
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.extend([count, yes])
    model.graph.node.insert(0, helper.make_node("Loop", ["rounds", "yes"], [], body=body))


DEEP = b"[" * 100_000

SPECIAL: dict[str, Callable[[Path, bytes], None]] = {
    "empty": _write(b""),
    "zeros": _write(b"\0" * 1000),
    "noise": _write(np.random.default_rng(0).bytes(5000)),
    "folder": lambda path, good: path.mkdir(),
    "deep": _write(DEEP),
    "latin1": _write('{"id": "K\xf6ln"}'.encode("latin-1")),
    "utf16": lambda path, good: path.write_bytes(good.decode().encode("utf-16")) and None,
    "bom": lambda path, good: path.write_bytes(b"\xef\xbb\xbf" + good) and None,
    "digits": _write(b'{"id": ' + b"9" * 5000 + b"}"),
    "twice": lambda path, good: path.write_bytes(good + good) and None,
    "flipped": lambda path, good: (
        path.write_bytes(
            good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :]
        )
        and None
    ),
    "nan": _with_numbers(float("nan")),
    "inf": _with_numbers(float("inf")),
    # .safetensors
    "header-2^60": lambda path, good: (
        path.write_bytes((2**60).to_bytes(8, "little") + good[8:]) and None
    ),
    "header-0": lambda path, good: path.write_bytes(b"\0" * 8 + good[8:]) and None,
    # pictures
    "empty-picture": _write(b"\x89PNG\r\n\x1a\n"),
    "large": _picture("L", (280, 280)),
    "small": _picture("L", (1, 1)),
    "colour": _picture("RGB", (28, 28)),
    "alpha": _picture("LA", (28, 28), "PNG"),
    "rgba": _picture("RGBA", (28, 28), "PNG"),
    "palette": _picture("P", (28, 28), "PNG"),
    "one-bit": _picture("1", (28, 28), "PNG"),
    "16-bit": _picture("I;16", (28, 28), "PNG"),
    "turned": _picture("L", (28, 14)),
    "tiff": _picture("L", (28, 28), "TIFF"),
    "gif": _picture("L", (28, 28), "GIF"),
    "upside-down": _oriented,
    "2^31-pixels": _declares(46341, 46341),
    "2^62-pixels": _declares(2**31 - 1, 2**31 - 1),
    "0-pixels": _declares(0, 28),
    # .npy
    "float": _array(lambda: np.zeros((28, 28))),
    "int": _array(lambda: np.zeros((28, 28), int)),
    "bool": _array(lambda: np.zeros((28, 28), bool)),
    "complex": _array(lambda: np.zeros((28, 28), complex)),
    "objects": _array(lambda: np.array([{}, []], dtype=object)),
    "records": _array(lambda: np.zeros(4, dtype=[("a", "u1"), ("b", "u1")])),
    "strings": _array(lambda: np.array(["a", "b"])),
    "none": _array(lambda: np.zeros((0, 28, 28), np.uint8)),
    "scalar": _array(lambda: np.uint8(3)),
    "27": _array(lambda: np.zeros((27, 28), np.uint8)),
    "5-axes": _array(lambda: np.zeros((1, 1, 1, 28, 28), np.uint8)),
    "2-channels": _array(lambda: np.zeros((3, 2, 28, 28), np.uint8)),
    "big-endian": _array(lambda: np.zeros((28, 28), ">u2")),
    "pickle": _write(pickle.dumps(_Runs())),
    "npz": lambda path, good: np.savez(path.open("wb"), a=np.zeros((28, 28), np.uint8)),
    "bad-header": _npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (28, 28"),
    "python-header": _npy(b"__import__('os').system('touch CODE_RAN')"),
    "no-shape": _npy(b"{'descr': '|u1', 'fortran_order': False}"),
    "unknown-type": _npy(b"{'descr': '|q9', 'fortran_order': False, 'shape': (28, 28)}"),
    "negative-shape": _npy(
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-28, -28)}", b"0" * 784
    ),
    "huge-shape": _npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,)}"),
    "huge-axes": _npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"1," * 100 + b")}"),
    "deep-header": _npy(b"{'descr': " + b"(" * 3000 + b", 'fortran_order': False}"),
    "version-9": lambda path, good: path.write_bytes(good[:6] + b"\x09" + good[7:]) and None,
    # checkpoints
    "a-list": lambda path, good: torch.save([1, 2], path),
    "a-tensor": lambda path, good: torch.save(torch.zeros(3), path),
    "a-number": lambda path, good: torch.save(7, path),
    "runs-code": lambda path, good: torch.save({"model": _Runs()}, path, pickle_protocol=2),
    "plain-pickle": _write(pickle.dumps({"config": {}})),
    "two-directories": _two_directories,
    "no-config": _without("config"),
    "no-model": _without("model"),
    "no-optimiser": _without("optimiser"),
    "no-schedule": _without("schedule"),
    "no-history": _without("history"),
    "no-parts": _without("parts"),
    "config-list": _with("config", [1]),
    "config-other": _checkpoint(
        lambda content: content | {"config": content["config"] | {"seed": 5}}
    ),
    "config-unknown": _checkpoint(lambda content: content | {"config": {"nope": 1}}),
    "model-none": _with("model", None),
    "model-empty": _with("model", {}),
    "model-strings": _with_model(lambda model: dict.fromkeys(model, "a")),
    "model-shapes": _with_model(lambda model: {k: torch.zeros(2, 2) for k in model}),
    "model-nan": _with_model(
        lambda model: {k: torch.full_like(v, float("nan")) for k, v in model.items()}
    ),
    "model-more": _with_model(lambda model: model | {"more": torch.zeros(1)}),
    "model-less": _with_model(lambda model: dict(list(model.items())[1:])),
    "model-float64": _with_model(lambda model: {k: v.double() for k, v in model.items()}),
    "optimiser-none": _with("optimiser", None),
    "optimiser-empty": _with("optimiser", {}),
    "optimiser-groups": _with("optimiser", {"state": {}, "param_groups": []}),
    "schedule-list": _with("schedule", [1, 2]),
    "schedule-empty": _with("schedule", {}),
    "history-none": _with("history", None),
    "history-text": _with("history", "one epoch"),
    "history-long": _with("history", [{}] * 50),
    "history-empty-epochs": _with("history", [{}]),
    "history-nan": _with("history", [{"epoch": 1, "test_accuracy": float("nan")}]),
    "parts-text": _with("parts", "here"),
    "parts-numbers": _with("parts", [1, 2]),
    "parts-empty": _with("parts", []),
    # .onnx
    "no-seal": _onnx_about("seal", None),
    "no-dataset": _onnx_about("dataset", None),
    "dataset-nope": _onnx_about("dataset", "nope"),
    "dataset-cifar10": _onnx_about("dataset", "cifar10"),
    "no-classes": _onnx_about("classes", None),
    "classes-text": _onnx_about("classes", "[[["),
    "classes-number": _onnx_about("classes", "5"),
    "classes-object": _onnx_about("classes", '{"a": 1}'),
    "classes-9": _onnx_about("classes", json.dumps(list("012345678"))),
    "classes-11": _onnx_about("classes", json.dumps(list("0123456789a"))),
    "classes-empty": _onnx_about("classes", "[]"),
    "classes-numbers": _onnx_about("classes", json.dumps(list(range(10)))),
    "classes-escape": _onnx_about("classes", json.dumps(["\x1b[2J"] * 10)),
    "classes-deep": _onnx_about("classes", "[" * 100_000),
    "nan-weights": _onnx(_nan_weights),
    "input-renamed": _onnx(_rename_input),
    "output-20": _onnx(_wider_output),
    "unknown-operation": _onnx(_unknown_operation),
    "float-input": _onnx(_float_input),
    "5-by-5": _onnx(_other_shape),
    "missing-weight": _onnx(_missing_weight),
    "external-weight": _onnx(_external_weight),
    "huge-output": _onnx(_huge_output),
    "endless-loop": _onnx(_endless_loop),
    "no-nodes": _onnx(lambda model: model.graph.ClearField("node")),
    "no-opset": _onnx(lambda model: model.ClearField("opset_import")),
    "opset-999": _onnx(lambda model: setattr(model.opset_import[0], "version", 999)),
}
