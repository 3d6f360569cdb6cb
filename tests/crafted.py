"""Crafted files of every format that is read, by what is wrong with each.

All are sealed when they are written, so that no checksum stands in the way of what is wrong.
"""

import base64
import io
import json
import pickle
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qtlite.export.seal import OPEN_SEAL, seal_file

ABOUT = {
    "dataset": "mnist", "classes": json.dumps(list("0123456789")), "relu": "true",
    "pixel_mean": "0.1", "pixel_std": "0.3",
}  # fmt: skip
ESCAPE = "\x1b[2J\u202e"
NAN = struct.pack("<f", np.nan)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file, with its checksum if it has a place for one."""
    path.write_bytes(content)
    if OPEN_SEAL.encode() in content:
        seal_file(path)


class RunsCode:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch CODE_RAN",)


# -- JSON


def tensor(shape, numbers=None):
    numbers = np.zeros(int(np.prod(shape)), "<f4") if numbers is None else numbers
    return {"shape": shape, "data": base64.b64encode(np.float32(numbers).tobytes()).decode()}


def linear(n_in, n_out, **changes):
    return {"type": "linear", "weight": tensor([n_out, n_in]), "bias": tensor([n_out]), **changes}


def conv(n_in, n_out, size, padding=0):
    weight, bias = tensor([n_out, n_in, size, size]), tensor([n_out])
    return {"type": "conv2d", "padding": padding, "weight": weight, "bias": bias}


def json_file(layers, about=ABOUT, **changes):
    content = {"format": "qtlite-network", "version": 1, "seal": OPEN_SEAL, "metadata": about}
    return json.dumps({**content, "layers": layers, "mean": 0.1, "std": 0.3, **changes}).encode()


def weight_of(*shape):
    return json_file([FLAT, {**LAST, "weight": {"shape": shape, "data": ""}}])


def noted(**changes):
    return json_file([FLAT, LAST], {**ABOUT, **changes})


FLAT, LAST = {"type": "flatten"}, linear(784, 10)
LARGE = [3e38] * 10


@cache
def json_files():
    return {
        "deep": json_file([]).replace(b"[]", b"[" * 10**6 + b"]" * 10**6),
        "deep-unknown": json_file([FLAT, LAST], x=0).replace(b'"x": 0', b'"x": ' + b"[" * 10**6),
        "not-utf-8": json_file([FLAT, LAST]).replace(b'"0.1"', b'"\xff\xfe"'),
        "nan-mean": json_file([FLAT, LAST], mean=float("nan")),
        "no-std": json_file([FLAT, LAST], std=None),
        "std-0": json_file([FLAT, LAST], std=0),
        "nan-bias": json_file([FLAT, {**LAST, "bias": tensor([10], [np.nan] * 10)}]),
        "inf-bias": json_file([FLAT, {**LAST, "bias": tensor([10], [np.inf] * 10)}]),
        "huge-shape": weight_of(2**40, 2**20),
        "empty-shape": weight_of(0, 2**62),
        "overflow-shape": weight_of(2**32, 2**32),
        "negative-shape": json_file([{**LAST, "bias": {"shape": [-1, -10], "data": ""}}]),
        "not-base64": json_file([FLAT, {**LAST, "bias": {"shape": [10], "data": ESCAPE}}]),
        "padding": json_file([conv(1, 1, 1, 10**6), FLAT, LAST]),
        "some-padding": json_file([conv(1, 1, 1, 4000), FLAT, LAST]),
        "channels": json_file([conv(1, 30_000, 1), FLAT, LAST]),
        "outer-product": json_file([FLAT, linear(784, 1), linear(1, 20_000_000 // 1000)] * 50),
        "linear-on-channels": json_file([conv(1, 200, 1), linear(28, 3000), FLAT, LAST]),
        "pool-0": json_file([{"type": "max_pool2d", "size": 0}, FLAT, LAST]),
        "pool-huge": json_file([{"type": "max_pool2d", "size": 10**6}, FLAT, LAST]),
        "many-layers": json_file([{"type": "relu"}] * 10**6),
        "escape-type": json_file([{"type": ESCAPE}]),
        "escape-format": json_file([], format="\x1b]0;title\x07"),
        "escape-class": noted(classes='["\\u001b[2J"]'),
        "escape-note": noted(note=ESCAPE),
        "escape-dataset": noted(dataset=ESCAPE),
        "deep-classes": noted(classes="[" * 10**5),
        "number-classes": noted(classes="1" * 5000),
        "few-classes": json_file([FLAT, linear(784, 9)]),
        "other-input": json_file([FLAT, linear(783, 10)]),
        "infinite-logits": json_file(
            [
                FLAT,
                {**LAST, "bias": tensor([10], LARGE)},
                linear(10, 10, weight=tensor([10, 10], LARGE * 10)),
            ]
        ),
    }


# -- ONNX


def onnx_file(
    nodes,
    inputs="uint8[batch, 1, 28, 28] input",
    output="float[1, 10] output",
    opsets=(18,),
    **more,
):
    """A file of nodes as ONNX writes them in text, and of weights by name."""
    functions, node = more.pop("functions", []), more.pop("node", None)
    graph = onnx.parser.parse_graph(f"g ({inputs}) => ({output}) {{ {nodes} }}")
    graph.node.extend([node] if node else [])
    for name, weight in more.items():
        as_tensor = weight if isinstance(weight, TensorProto) else numpy_helper.from_array(weight)
        graph.initializer.append(as_tensor)
        graph.initializer[-1].name = name
    opset_imports = [helper.make_opsetid("", version) for version in opsets]
    model = helper.make_model(graph, opset_imports=opset_imports, ir_version=9, functions=functions)
    helper.set_model_props(model, {**ABOUT, "seal": OPEN_SEAL})
    return model.SerializeToString()


def zeros(*shape):
    return np.zeros(shape, np.float32)


def external(location):
    """A matrix of 784 x 10 that is said to lie in another file."""
    weight = numpy_helper.from_array(zeros(784, 10))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "31360")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return onnx_file(GOOD, w=weight)


def function(i):
    """The i-th of 41 functions, each of which calls the next one ten times."""
    call = f"b = f.F{i + 1}(a) " if i < 40 else "b = Relu(a) "
    head = f'<domain: "f", opset_import: ["": 18, "f": 1]> F{i} (a) => (b)'
    return onnx.parser.parse_function(f"{head} {{ {call * 10} }}")


def relu(operation="Relu", given="input"):
    return onnx_file("", node=helper.make_node(operation, [given], ["output"]))


FLOAT = "x = Cast <to = 1> (input) "
CLASSIFY = FLOAT + "output = Flatten(x)"
GOOD = FLOAT + "f = Flatten(x) output = MatMul(f, w)"
SQUARE = "v = Transpose(u) output = MatMul(u, v)"
SIZES = "i = Cast <to = 7> (input) j = Flatten(i) k = Squeeze(j) "
LOOP = """u = Loop <body = b (int64 i, bool c, float v) => (bool d, float w) {
    d = Identity(c) w = Identity(v) }> (n, t, x) output = Flatten(u)"""
KERNEL = np.ones((1, 1, 1, 1), np.float32)


@cache
def onnx_files():
    return {
        "external-passwd": external("/etc/passwd"),
        "external-beside": external("json-deep.json"),
        "external-above": external("../good/a.json"),
        "external-memory": external("*/_ORT_MEM_ADDR_/*"),
        "loop": onnx_file(FLOAT + LOOP, n=np.array(2**62), t=np.array(True)),
        "functions": onnx_file(
            FLOAT + "output = f.F0(x)", functions=[function(i) for i in range(41)]
        ),
        "constant-of-shape": onnx_file("output = ConstantOfShape(s)", s=np.array([2**20, 2**20])),
        "expand": onnx_file(FLOAT + "output = Expand(x, s)", s=np.array([2**40])),
        "range": onnx_file(
            "output = Range(a, s, b)", a=np.array(0), b=np.array(1), s=np.array(2**40)
        ),
        "outer-product": onnx_file("u = Identity(w) " + SQUARE, w=zeros(10**5, 1)),
        "broadcast": onnx_file("output = Add(w, v)", w=zeros(10**5, 1), v=zeros(10**5)),
        "conv-pads": onnx_file(FLOAT + f"output = Conv <pads = {[30_000] * 4}> (x, s)", s=KERNEL),
        "conv-pads-huge": onnx_file(
            FLOAT + f"output = Conv <pads = {[2**62] * 4}> (x, s)", s=KERNEL
        ),
        "conv-products": onnx_file(
            FLOAT + f"output = Conv <pads = {[1000] * 4}> (x, s)", s=np.ones((1, 1, 500, 500), "f4")
        ),
        "pool-pads": onnx_file(
            FLOAT + f"output = MaxPool <kernel_shape = {[2**31] * 2}, pads = {[2**31 - 1] * 4}> (x)"
        ),
        "size-from-pixels": onnx_file(SIZES + "output = Reshape(s, k)", s=np.ones(1, "f4")),
        "slice-from-pixels": onnx_file(SIZES + "u = Slice(s, k, k) " + SQUARE, s=zeros(10**5, 1)),
        "declared": onnx_file(  # 2^40 numbers, of which it holds none
            "output = Identity(w)", w=TensorProto(data_type=TensorProto.FLOAT, dims=[2**20, 2**20])
        ),
        "nan-weight": onnx_file(FLOAT + "output = Add(x, s)", s=np.full(1, np.nan, "f4")),
        "custom-domain": onnx_file("output = ai.onnx.contrib.PyOp(input)"),
        "unknown-operation": relu("NoSuchOperation"),
        "escape-operation": relu(ESCAPE),
        "escape-name": relu(given="\x1b[2J"),
        "unknown-input": relu(given="nothing"),
        "two-inputs": onnx_file(
            CLASSIFY, f"uint8[batch, 1, 28, 28] input, float[{2**30}, {2**30}] other"
        ),
        "input-renamed": onnx_file(
            GOOD.replace("input", "other"), "uint8[b, 1, 28, 28] other", w=zeros(784, 10)
        ),
        "float-input": onnx_file(GOOD, "float[batch, 1, 28, 28] input", w=zeros(784, 10)),
        "5-by-5": onnx_file(GOOD, "uint8[batch, 1, 5, 5] input", w=zeros(25, 10)),
        "scalar-input": onnx_file("output = Relu(input)", "uint8 input"),
        "other-classes": onnx_file(CLASSIFY, output="float[batch, 784] output"),
        "string": onnx_file(f'output = Constant <value_string = "{"x" * 100}"> ()'),
        "no-nodes": onnx_file(""),
        "no-opset": onnx_file(GOOD, opsets=(), w=zeros(784, 10)),
        "opset-999": onnx_file(GOOD, opsets=(999,), w=zeros(784, 10)),
        "deep": b"\x3a\x0a" * 10**5 + OPEN_SEAL.encode(),
    }


# -- safetensors


def safetensors_file(header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(shape, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


SEALED = {**ABOUT, "seal": OPEN_SEAL}
NOTE = {"__metadata__": SEALED}


@cache
def safetensors_files():
    return {
        "long-header": safetensors_file(NOTE, length=2**62),
        "no-header": safetensors_file(NOTE, length=0),
        "deep-header": safetensors_file(b'{"a":' * 10**5 + b"0" + b"}" * 10**5),
        "not-utf-8": safetensors_file(b'{"__metadata__": {"a": "\xff"}}'),
        "huge": safetensors_file({**NOTE, "0.weight": entry([2**31, 2**31], 4)}, b"\0" * 4),
        "overflow": safetensors_file({**NOTE, "0.weight": entry([2**32, 2**32], 0)}),
        "empty-huge": safetensors_file({**NOTE, "0.weight": entry([0, 2**62], 0)}),
        "escape-name": safetensors_file({**NOTE, ESCAPE: entry([1], 4)}, b"\0" * 4),
        "escape-note": safetensors_file({"__metadata__": {**SEALED, "relu": "\x1b[2J"}}),
        "metadata-list": safetensors_file({"__metadata__": [1, 2]}),
        "no-metadata": safetensors_file({"a": entry([1], 4)}, b"\0" * 4),
        "nan-std": safetensors_file({"__metadata__": {**SEALED, "pixel_std": "nan"}}),
        "empty-file": b"",
    }


# -- arrays and pictures


def npy_file(header, content=b"", version=1, length=None):
    text = header if isinstance(header, bytes) else header.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes((version, 0)) + size + text + content


def npy_header(shape="(28, 28)", descr="'|u1'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def npz_file():
    stream = io.BytesIO()
    np.savez(stream, np.zeros((28, 28), np.uint8))
    return stream.getvalue()


@cache
def npy_files():
    return {
        "huge": npy_file(npy_header(f"({2**40}, {2**20})")),
        "negative": npy_file(npy_header("(-1, 28, 28)"), b"\0" * 784),
        "long-header": npy_file(npy_header(), b"\0" * 784, 2, 2**32 - 1),
        "deep-header": npy_file("(" * 9000 + ")" * 9000),
        "minus-header": npy_file("-" * 9000 + "1"),
        "sum-header": npy_file("+".join("1" * 4000)),
        "power-header": npy_file(npy_header("9**9**9**9")),
        "call-header": npy_file(npy_header("__import__('os').system('touch CODE_RAN')")),
        "bad-token": npy_file("{'descr': '|u1', \n  'a"),
        "no-shape": npy_file("{'descr': '|u1', 'fortran_order': False}\n"),
        "unknown-type": npy_file(npy_header(descr="'|q9'")),
        "not-latin1": npy_file(b"{'descr': '\xff\xfe'}"),
        "object": npy_file(npy_header(descr="'|O'"), pickle.dumps(RunsCode())),
        "escape": npy_file(npy_header(descr="[('\\x1b[2J', '|u1')]"), b"\0" * 784),
        "many-axes": npy_file(npy_header(str((1,) * 500)), b"\0"),
        "pickle": pickle.dumps(RunsCode()),
        "zip": b"PK\x03\x04" + b"\0" * 100,
        "npz": npz_file(),
        "version-9": npy_file(npy_header(), version=9),
        "empty": b"",
    }


def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width=28, height=28, before=b"", content=None, after=b""):
    """A grey PNG with 28 x 28 black pixels, whatever size it declares."""
    header = chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(29 * 28)) if content is None else content)
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


@cache
def png_files():
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    small_bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 9)))
    return {
        "0-pixels": png(0, 28),
        "2-31-pixels": png(2**16, 2**15),
        "2-62-pixels": png(2**31 - 1, 2**31 - 1),
        "16000-squared": png(16_000, 16_000),
        "10000-squared": png(10_000, 10_000),
        "text-bomb": png(before=bomb),
        "many-text-bombs": png(before=small_bomb * 200),
        "profile-bomb": png(
            width=27, before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))
        ),
        "late-text-bomb": png(after=bomb),
        "no-data": png(content=b""),
        "damaged-data": png(content=b"x" * 100),
        "long-chunk": png(before=struct.pack(">I", 2**31 - 1) + b"tEXt"),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n",
        "empty": b"",
    }


CRAFTED = {
    "json": json_files,
    "onnx": onnx_files,
    "safetensors": safetensors_files,
    "npy": npy_files,
    "png": png_files,
}
