"""Crafted files of every format that is read: refused in one line, without running any of them.

All are sealed, so that no checksum stands in their way. Another process reads them; it measures
its memory and time, and an audit hook sees which files it opens and what code it runs.
"""

import base64
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from qtlite import QuantumTrain
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import FORMATS, FromPixels, save_compressed, save_json, save_safetensors
from qtlite.export.new_file import MAX_NUMBERS, MAX_PRODUCTS, check_cost
from qtlite.export.seal import OPEN_SEAL, seal_file

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
ABOUT = {
    "dataset": "mnist", "classes": json.dumps(list("0123456789")), "relu": "true",
    "pixel_mean": "0.1", "pixel_std": "0.3",
}  # fmt: skip


def sealed(path, content):
    path.write_bytes(content)
    if OPEN_SEAL.encode() in content:
        seal_file(path)


# -- JSON


def tensor(shape, numbers=None):
    numbers = np.zeros(int(np.prod(shape)), "<f4") if numbers is None else numbers
    return {"shape": shape, "data": base64.b64encode(np.float32(numbers).tobytes()).decode()}


def linear(n_in, n_out, **changes):
    return {"type": "linear", "weight": tensor([n_out, n_in]), "bias": tensor([n_out]), **changes}


def conv(n_in, n_out, size, padding=0):
    weight, bias = tensor([n_out, n_in, size, size]), tensor([n_out])
    return {"type": "conv2d", "padding": padding, "weight": weight, "bias": bias}


def json_file(layers, **changes):
    content = {"format": "qtlite-network", "version": 1, "seal": OPEN_SEAL, "metadata": ABOUT}
    return json.dumps({**content, "layers": layers, "mean": 0.1, "std": 0.3, **changes}).encode()


FLAT, LAST = {"type": "flatten"}, linear(784, 10)
NAN = tensor([10], [np.nan] * 10)
JSON_FILES = {
    "deep": json_file([]).replace(b"[]", b"[" * 10**6 + b"]" * 10**6),
    "deep-unknown": json_file([FLAT, LAST], x=0).replace(b'"x": 0', b'"x": ' + b"[" * 10**6),
    "not-utf-8": json_file([FLAT, LAST]).replace(b'"0.1"', b'"\xff\xfe"'),
    "nan-mean": json_file([FLAT, LAST], mean=float("nan")),
    "no-std": json_file([FLAT, LAST], std=None),
    "std-0": json_file([FLAT, LAST], std=0),
    "nan-bias": json_file([FLAT, {**LAST, "bias": NAN}]),
    "huge-shape": json_file([FLAT, {**LAST, "weight": {"shape": [2**40, 2**20], "data": ""}}]),
    "empty-shape": json_file([FLAT, {**LAST, "weight": {"shape": [0, 2**62], "data": ""}}]),
    "overflow-shape": json_file([FLAT, {**LAST, "weight": {"shape": [2**32, 2**32], "data": ""}}]),
    "negative-shape": json_file([{**LAST, "bias": {"shape": [-1, -10], "data": ""}}]),
    "not-base64": json_file([FLAT, {**LAST, "bias": {"shape": [10], "data": "\x1b[2J"}}]),
    "padding": json_file([conv(1, 1, 1, 10**6), FLAT, LAST]),
    "some-padding": json_file([conv(1, 1, 1, 4000), FLAT, LAST]),
    "channels": json_file([conv(1, 30_000, 1), FLAT, LAST]),
    "outer-product": json_file([FLAT, linear(784, 1), linear(1, 20_000_000 // 1000)] * 50),
    "linear-on-channels": json_file([conv(1, 200, 1), linear(28, 3000), FLAT, LAST]),
    "pool-0": json_file([{"type": "max_pool2d", "size": 0}, FLAT, LAST]),
    "pool-huge": json_file([{"type": "max_pool2d", "size": 10**6}, FLAT, LAST]),
    "many-layers": json_file([{"type": "relu"}] * 10**6),
    "escape-type": json_file([{"type": "\x1b[2J\u202e"}]),
    "escape-format": json_file([], format="\x1b]0;title\x07"),
    "escape-class": json_file([FLAT, LAST], metadata={**ABOUT, "classes": '["\\u001b[2J"]'}),
    "escape-note": json_file([FLAT, LAST], metadata={**ABOUT, "note": "\x1b[2J"}),
    "escape-dataset": json_file([FLAT, LAST], metadata={**ABOUT, "dataset": "\x1b[2J\u202e"}),
    "deep-classes": json_file([FLAT, LAST], metadata={**ABOUT, "classes": "[" * 10**5}),
    "number-classes": json_file([FLAT, LAST], metadata={**ABOUT, "classes": "1" * 5000}),
    "few-classes": json_file([FLAT, linear(784, 9)]),
    "other-input": json_file([FLAT, linear(783, 10)]),
    "infinite-logits": json_file(
        [FLAT, {**LAST, "bias": tensor([10], [3e38] * 10)}, linear(10, 10, weight=tensor(
            [10, 10], [3e38] * 100))]
    ),
}  # fmt: skip


# -- ONNX


def onnx_file(nodes, initializers=(), output=(1, 10), **graph):
    pixels = helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", 1, 28, 28])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, output)
    made = helper.make_graph(nodes, "g", [pixels, *graph.pop("inputs", [])], [logits], initializers)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, **graph
    )
    helper.set_model_props(model, {**ABOUT, "seal": OPEN_SEAL})
    return model


def numbers(name, array):
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def node(*arguments, **attributes):
    return helper.make_node(*arguments, **attributes)


FLOAT = node("Cast", ["input"], ["x"], to=TensorProto.FLOAT)
OUTER = [
    node("Identity", ["w"], ["u"]), node("Transpose", ["u"], ["v"]),
    node("MatMul", ["u", "v"], ["output"]),
]  # fmt: skip


def external(location):
    weight = numbers("w", np.zeros((784, 10), np.float32))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "31360")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    nodes = [FLOAT, node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["output"])]
    return onnx_file(nodes, [weight])


def loop():
    i = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    given = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    same = helper.make_tensor_value_info("d", TensorProto.BOOL, [])
    body = helper.make_graph([node("Identity", ["c"], ["d"])], "b", [i, given], [same])
    nodes = [node("Loop", ["n", "t"], [], body=body), FLOAT, node("Flatten", ["x"], ["output"])]
    return onnx_file(nodes, [numbers("n", np.int64(2**62)), numbers("t", np.bool_(True))])


def functions():
    """40 functions, each of which calls the next one ten times."""
    made = [
        helper.make_function(
            "f", f"F{i}", ["a"], ["b"],
            [node(f"F{i + 1}" if i < 40 else "Relu", ["a"], ["b"], domain="f" * (i < 40))] * 10,
            [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)],
        )
        for i in range(41)
    ]  # fmt: skip
    return onnx_file([FLOAT, node("F0", ["x"], ["output"], domain="f")], functions=made)


def declared():
    """An initialiser that declares 2^40 numbers and holds none."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**20, 2**20])
    return onnx_file([node("Identity", ["w"], ["output"])], [weight])


def small(values, kind=np.float32):
    return [numbers("s", np.asarray(values, kind))]


ONNX_FILES = {
    "external-passwd": external("/etc/passwd"),
    "external-beside": external("json-deep.json"),
    "external-above": external("../good/a.json"),
    "external-memory": external("*/_ORT_MEM_ADDR_/*"),
    "loop": loop(),
    "functions": functions(),
    "constant-of-shape": onnx_file(
        [node("ConstantOfShape", ["s"], ["output"])], small([2**20, 2**20], np.int64)
    ),
    "expand": onnx_file([FLOAT, node("Expand", ["x", "s"], ["output"])], small([2**40], np.int64)),
    "range": onnx_file(
        [node("Range", ["a", "s", "b"], ["output"])],
        [numbers("a", np.int64(0)), numbers("b", np.int64(1)), numbers("s", np.int64(2**40))],
    ),
    "outer-product": onnx_file(OUTER, [numbers("w", np.zeros((10**5, 1), np.float32))]),
    "broadcast": onnx_file(
        [node("Add", ["w", "v"], ["output"])],
        [numbers("w", np.zeros((10**5, 1), np.float32)), numbers("v", np.zeros(10**5, np.float32))],
    ),
    "conv-pads": onnx_file(
        [FLOAT, node("Conv", ["x", "s"], ["output"], pads=[30_000] * 4)], small([[[[1.0]]]])
    ),
    "conv-pads-huge": onnx_file(
        [FLOAT, node("Conv", ["x", "s"], ["output"], pads=[2**62] * 4)], small([[[[1.0]]]])
    ),
    "conv-products": onnx_file(
        [FLOAT, node("Conv", ["x", "s"], ["output"], pads=[1000] * 4)],
        small(np.ones((1, 1, 500, 500))),
    ),
    "pool-pads": onnx_file(
        [FLOAT, node("MaxPool", ["x"], ["output"], kernel_shape=[2**31] * 2, pads=[2**31 - 1] * 4)]
    ),
    "size-from-pixels": onnx_file(
        [
            node("Cast", ["input"], ["i"], to=TensorProto.INT64), node("Flatten", ["i"], ["j"]),
            node("Squeeze", ["j"], ["k"]), node("Reshape", ["s", "k"], ["output"]),
        ],
        small([1.0]),
    ),
    "slice-from-pixels": onnx_file(
        [
            node("Cast", ["input"], ["i"], to=TensorProto.INT64), node("Flatten", ["i"], ["j"]),
            node("Squeeze", ["j"], ["k"]), node("Slice", ["s", "k", "k"], ["u"]),
            node("Transpose", ["u"], ["v"]), node("MatMul", ["u", "v"], ["output"]),
        ],
        small(np.zeros((10**5, 1))),
    ),
    "declared": declared(),
    "nan": onnx_file([FLOAT, node("Add", ["x", "s"], ["output"])], small([np.nan])),
    "custom-domain": onnx_file([node("PyOp", ["input"], ["output"], domain="ai.onnx.contrib")]),
    "escape-operation": onnx_file([node("\x1b[2J\u202e", ["input"], ["output"])]),
    "escape-name": onnx_file([node("Relu", ["\x1b[2J"], ["output"])]),
    "unknown-input": onnx_file([node("Relu", ["nothing"], ["output"])]),
    "two-inputs": onnx_file(
        [FLOAT, node("Flatten", ["x"], ["output"])],
        inputs=[helper.make_tensor_value_info("other", TensorProto.FLOAT, [2**30, 2**30])],
    ),
    "other-classes": onnx_file([FLOAT, node("Flatten", ["x"], ["output"])], output=["batch", 784]),
    "string": onnx_file([node("Constant", [], ["output"], value_string="x" * 100)]),
    "scalar-input": onnx_file([node("Relu", ["input"], ["output"])]),
}  # fmt: skip
del ONNX_FILES["scalar-input"].graph.input[0].type.tensor_type.shape.dim[:]


# -- safetensors and the compressed form


def safetensors_file(header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(shape, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [0, end]}


SEALED = {**ABOUT, "seal": OPEN_SEAL}
NOTE = {"__metadata__": SEALED}
SAFETENSORS = {
    "long-header": safetensors_file(NOTE, length=2**62),
    "deep-header": safetensors_file(b'{"a":' * 10**5 + b"0" + b"}" * 10**5),
    "not-utf-8": safetensors_file(b'{"__metadata__": {"a": "\xff"}}'),
    "huge": safetensors_file({**NOTE, "0.weight": entry([2**31, 2**31], 4)}, b"\0" * 4),
    "overflow": safetensors_file({**NOTE, "0.weight": entry([2**32, 2**32], 0)}),
    "empty-huge": safetensors_file({**NOTE, "0.weight": entry([0, 2**62], 0)}),
    "escape-name": safetensors_file({**NOTE, "\x1b[2J\u202e": entry([1], 4)}, b"\0" * 4),
    "escape-note": safetensors_file({"__metadata__": {**SEALED, "relu": "\x1b[2J"}}),
    "metadata-list": safetensors_file({"__metadata__": [1, 2]}),
    "no-metadata": safetensors_file({"a": entry([1], 4)}, b"\0" * 4),
    "nan-std": safetensors_file({"__metadata__": {**SEALED, "pixel_std": "nan"}}),
    "empty-file": b"",
}


def changed_header(path, change):
    """A .safetensors file with another header: ``change`` is given its metadata."""
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    about = header["__metadata__"]
    about["seal"] = OPEN_SEAL
    if "quantum_train" in about:
        stored = json.loads(about["quantum_train"])
        change(stored)
        about["quantum_train"] = json.dumps(stored)
    else:
        change(about)
    return safetensors_file(header, content[size:])


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(stored):
        for key in keys:
            stored = stored[key]
        stored[last] = value

    return change


COMPRESSED = {
    "other-feature": put("options", "feature", "raw"),
    "other-bits": put("options", "bit_values", [0.0, 1.0]),
    "other-activation": put("options", "activation", "first"),
    "other-normalisation": put("options", "normalisation", "tensor"),
    "other-scale": put("scales", "9.weight", "scale", 0.2),
    "other-centre": put("scales", "9.bias", "centre", 0.01),
    "unknown-scale": put("scales", {}),
    "rows-off": put("scales", "0.weight", "has_rows", False),
    "huge-scale": put("scales", "9.weight", "scale", 1e300),
    "many-blocks": put("options", "n_blocks", 10**12),
    "more-blocks": put("options", "n_blocks", 3),
    "no-angles": put("options", "angles_per_block", 0),
    "many-angles": put("options", "angles_per_block", 10**12),
    "wide": put("options", "hidden", [10**9, 10**9]),
    "long": put("options", "hidden", [1] * 10**5),
    "negative": put("options", "hidden", [-1]),
    "unknown-option": put("options", "qnn", "os.system"),
    "escape-feature": put("options", "feature", "\x1b[2J\u202e"),
    "escape-block": put("block", "\x1b[2J\u202e"),
    "escape-name": put("shapes", {"\x1b[2J\u202e": [1]}),
    "huge-shape": put("shapes", "0.weight", [2**40, 2**40]),
    "short-fingerprint": put("fingerprint", "0.weight", [1.0]),
    "no-fingerprint": put("fingerprint", {}),
}


# -- images


def npy_file(header, content=b"", version=1, length=None):
    text = header if isinstance(header, bytes) else header.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes((version, 0)) + size + text + content


def npy_header(shape="(28, 28)", descr="'|u1'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NPY = {
    "huge": npy_file(npy_header(f"({2**40}, {2**20})")),
    "negative": npy_file(npy_header("(-1, 28, 28)"), b"\0" * 784),
    "long-header": npy_file(npy_header(), b"\0" * 784, 2, 2**32 - 1),
    "deep-header": npy_file("(" * 9000 + ")" * 9000),
    "minus-header": npy_file("-" * 9000 + "1"),
    "sum-header": npy_file("+".join("1" * 4000)),
    "power-header": npy_file(npy_header("9**9**9**9")),
    "call-header": npy_file(npy_header("__import__('os').system('touch ran')")),
    "bad-token": npy_file("{'descr': '|u1', \n  'a"),
    "not-latin1": npy_file(b"{'descr': '\xff\xfe'}"),
    "object": npy_file(npy_header(descr="'|O'"), b"cos\nsystem\n(S'touch ran'\ntR."),
    "escape": npy_file(npy_header(descr="[('\\x1b[2J', '|u1')]"), b"\0" * 784),
    "many-axes": npy_file(npy_header(str((1,) * 500)), b"\0"),
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "version-9": npy_file(npy_header(), version=9),
    "empty": b"",
}


def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width=28, height=28, before=b"", content=None, after=b""):
    header = chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(29 * 28)) if content is None else content)
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
SMALL_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 9)))
PNG = {
    "2-31-pixels": png(2**16, 2**15),
    "16000-squared": png(16_000, 16_000),
    "10000-squared": png(10_000, 10_000),
    "text-bomb": png(before=BOMB),
    "many-text-bombs": png(before=SMALL_BOMB * 200),
    "profile-bomb": png(width=27, before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "late-text-bomb": png(after=BOMB),
    "no-data": png(content=b""),
    "damaged-data": png(content=b"x" * 100),
    "long-chunk": png(before=struct.pack(">I", 2**31 - 1) + b"tEXt"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n",
    "empty": b"",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What another process found: file name -> error, seconds, megabytes, events."""
    folder = tmp_path_factory.mktemp("files")
    good, crafted = folder / "good", folder / "crafted"
    good.mkdir()
    crafted.mkdir()
    torch.manual_seed(0)
    network = paper_cnn("mnist")
    save_json(FromPixels(network, 0.1, 0.3), good / "a.json", ABOUT)
    save_safetensors(network, good / "a.safetensors", ABOUT)
    save_compressed(QuantumTrain(network, 2), good / "a.angles.safetensors", ABOUT)
    other = QuantumTrain(network, 2, normalisation="tensor")
    save_compressed(other, good / "b.angles.safetensors", ABOUT)  # its compiled loops are loaded
    flat = [FLOAT, node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "s"], ["output"])]
    model = onnx_file(flat, small(np.zeros((784, 10))), output=["batch", 10])
    sealed(good / "a.onnx", model.SerializeToString())
    np.save(good / "a.npy", np.zeros((28, 28), np.uint8))
    (good / "a.png").write_bytes(png())
    Image.new("L", (28, 28)).save(good / "a.jpg")

    for name, content in JSON_FILES.items():
        sealed(crafted / f"json-{name}.json", content)
    for name, model in ONNX_FILES.items():
        sealed(crafted / f"onnx-{name}.onnx", model.SerializeToString())
    sealed(crafted / "onnx-deep.onnx", b"\x3a\x0a" * 10**5 + OPEN_SEAL.encode())
    sealed(crafted / "onnx-int8.int8.onnx", OPEN_SEAL.encode())
    for name, content in SAFETENSORS.items():
        sealed(crafted / f"safetensors-{name}.safetensors", content)
    for name, change in COMPRESSED.items():
        content = changed_header(good / "a.angles.safetensors", change)
        sealed(crafted / f"compressed-{name}.angles.safetensors", content)
    content = changed_header(good / "a.safetensors", put("note", ""))
    sealed(crafted / "safetensors-nan.safetensors", content[:-4] + struct.pack("<f", np.nan))
    for end in ("safetensors", "angles.safetensors"):
        content = changed_header(good / f"a.{end}", lambda stored: None)
        sealed(crafted / f"integers.{end}", content.replace(b'"F32"', b'"I32"'))
    content = changed_header(good / "a.angles.safetensors", put("block", "ry_linear_cnot"))
    sealed(crafted / "compressed-nan.angles.safetensors", content[:-4] + struct.pack("<f", np.nan))
    for name, content in NPY.items():
        (crafted / f"npy-{name}.npy").write_bytes(content)
    for name, content in PNG.items():
        (crafted / f"png-{name}.png").write_bytes(content)
    (crafted / "torch.pt2").write_bytes(b"PK\x03\x04")
    command = [sys.executable, "-c", READER, str(good), str(crafted)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert not (folder / "ran").exists()
    assert "\x1b" not in run.stderr
    files = {path.name: path.stat().st_size for path in crafted.iterdir()}
    return files, json.loads(run.stdout)


NAMES = [
    *(f"json-{name}.json" for name in JSON_FILES),
    *(f"onnx-{name}.onnx" for name in ONNX_FILES), "onnx-deep.onnx", "onnx-int8.int8.onnx",
    *(f"safetensors-{name}.safetensors" for name in (*SAFETENSORS, "nan")),
    *(f"compressed-{name}.angles.safetensors" for name in (*COMPRESSED, "nan")),
    "integers.safetensors", "integers.angles.safetensors",
    *(f"npy-{name}.npy" for name in NPY), *(f"png-{name}.png" for name in PNG), "torch.pt2",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_file_is_refused_in_one_line(found, name):
    sizes, results = found
    result = results[name]
    assert result["error"] == "ValueError", result
    assert result["text"].isprintable(), result
    assert len(result["text"]) < 2000
    assert name in result["text"], result
    assert result["events"] == []
    assert result["seconds"] < 5
    assert result["megabytes"] < 150 + 10 * sizes[name] / 2**20, result


def test_every_format_that_is_read_has_crafted_files():
    for kind in FORMATS.values():
        assert any(name.endswith(kind.ending) for name in NAMES), kind.name


def test_cost_has_limits():
    check_cost(MAX_NUMBERS, MAX_PRODUCTS)
    for cost in ((MAX_NUMBERS + 1, 0), (0, MAX_PRODUCTS + 1)):
        with pytest.raises(ValueError, match="network must take at most 16,777,216 numbers and"):
            check_cost(*cost)
