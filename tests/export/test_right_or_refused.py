"""What a format cannot hold is refused with its cure, and what was damaged is not read."""

import copy
import json
import pickle

import pytest
import torch
from export.test_export_formats import WRITERS
from method.test_inject import TARGETS
from refusals import refused
from torch import nn

from qtlite import QuantumTrain
from qtlite.experiments.models.released import CentredMappingNet, released
from qtlite.export import (
    FromPixels,
    check_seal,
    json_file,
    load_compressed,
    load_json,
    load_safetensors,
    onnx_file,
    open_onnx,
    safetensors_file,
    save_compressed,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)
from qtlite.export.checks import check_outputs, require
from qtlite.export.seal import OPEN_SEAL, seal_file

GRAPHS = (save_onnx, save_torch_export)


def linear():
    return nn.Sequential(nn.Linear(3, 2))


@pytest.fixture
def path(tmp_path):
    """Of a new file; what is refused must leave nothing behind."""
    return tmp_path / "a"


def nothing_is_left(path):
    return not path.exists() and not list(path.parent.iterdir())


# -- what is written


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_is_no_plain_network(write, path):
    x = torch.zeros(2, 16)
    for wrong in (None, nn.Linear):
        refused(r"network must be an nn\.Module, got ", write, wrong, x, path)
    text = r"got QuantumTrain: give its to_classical\(\)"
    refused(text, write, QuantumTrain(nn.Linear(16, 8), 1), x, path)
    for number in (float("nan"), float("inf"), -float("inf")):
        network = linear()
        with torch.no_grad():
            network[0].weight[1, 2] = number
        text = "must have finite weights, got .* in '0.weight'"
        refused(text, write, network, torch.zeros(2, 3), path)
    assert nothing_is_left(path)


@pytest.mark.parametrize("save", GRAPHS)
@pytest.mark.parametrize(
    "forward",
    [lambda x: x.view(4, 2), lambda x: x + torch.arange(4.0)[:, None], lambda x: x - x.mean(0)],
)
def test_a_network_with_a_fixed_batch_is_refused_with_its_cure(save, forward, path):
    text = (
        r"must take a batch of any length, got .* for 1 input in "
        r"place of 4: use x.shape\[0\] or -1 where a length is"
    )
    refused(text, save, Runs(forward), torch.randn(4, 2), path)
    assert nothing_is_left(path)


class Runs(nn.Module):
    """A network that is a function."""

    def __init__(self, forward):
        super().__init__()
        self.own = forward

    def forward(self, x):
        return self.own(x)


@pytest.mark.parametrize("save", GRAPHS)
def test_networks_and_examples_that_do_not_fit(save, path):
    ones = torch.ones(2, 3)
    for network, example, text in (
        (Runs(lambda x: (x, x)), ones, "must return one tensor with .*, got tuple for 2"),
        (Runs(lambda x: x.sum(0, keepdim=True)), ones, r"got \(1, 3\) for 2 inputs"),
        (linear(), ones[:1], "example must hold at least 2 inputs, got 1"),
        (linear(), torch.ones(2, 4), r"example must hold inputs .*, got shape \(2, 4\): "),
        # which operation runs depends on the numbers: no graph can hold it
        (Runs(lambda x: x if bool(x.sum() > 0) else -x), ones, "network must .*, got Runs"),
    ):
        refused(text, save, network, example, path)
    assert nothing_is_left(path)
    x = torch.randn(2, 3, requires_grad=True)  # it is only an example
    assert save(linear(), x, path).exists()
    assert x.requires_grad
    assert x.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_onnx_of_half_precision_is_refused_with_its_cure(dtype, tmp_path):
    network, x = nn.Linear(3, 2).to(dtype), torch.randn(2, 3, dtype=dtype)
    text = f"float32 or float64, got {dtype}: call .float"
    refused(text, save_onnx, network, x, tmp_path / "a.onnx")
    save_onnx(network.float(), x.float(), tmp_path / "a.onnx")
    save_torch_export(network.to(dtype), x, tmp_path / "a.pt2")
    text = "float32 or float64, got torch.bfloat16"
    refused(text, save_onnx, nn.Linear(3, 2), torch.randn(2, 3).bfloat16(), tmp_path / "b.onnx")


@pytest.mark.parametrize("name", ["lstm", "encoder", "norm", "conv"])
def test_json_says_what_it_cannot_hold(name, path):
    refused("for JSON.*got .*: use ONNX or torch.export", save_json, TARGETS[name][0](), path)
    text = "network must be float32 for JSON, got torch.float64"
    refused(text, save_json, linear().double(), path)
    assert nothing_is_left(path)


def test_from_pixels_refuses_what_gives_no_numbers():
    for mean, std, text in (
        (0.0, 0.0, "std must be positive"), (0.0, float("inf"), "std must be positive"),
        (0.0, float("nan"), "std must be positive"), (float("nan"), 1.0, "mean must be finite"),
    ):  # fmt: skip
        refused(f"{text}, got", FromPixels, nn.Flatten(), mean, std)


class Fixed(nn.Module):
    def forward(self):
        return torch.full((8,), 1 / 8)


def test_what_has_no_compressed_form(path):
    parts = "must have a MappingNet and a feature of .*, got"
    model = QuantumTrain(nn.Linear(3, 2), 1)
    with torch.no_grad():
        model.qnn.angles[0, 0] = torch.nan
    for wrong, text in (
        (nn.Linear(3, 2), "model must be a QuantumTrain, got Linear"),
        (QuantumTrain(nn.Linear(10, 5), 3, feature=released), parts),
        (QuantumTrain(nn.Linear(10, 5), 3, mapping=CentredMappingNet(6)), parts),
        (
            QuantumTrain(nn.Linear(3, 2), qnn=Fixed()),
            "model must get its probabilities from a QNN, got Fixed",
        ),
        (model, "must have finite weights, got .* in 'qnn.angles'"),
    ):
        refused(text, save_compressed, wrong, path)
    assert nothing_is_left(path)


def test_missing_package_says_what_to_install():
    text = "no_such must be installed .*'qtlite\\[export\\]'"
    refused(text, require, "no_such", error=ImportError)


# -- what was written wrongly is not kept


def test_a_file_that_gives_other_outputs_is_not_kept(path, monkeypatch):
    network, x = FromPixels(linear(), 0.1, 0.3), torch.zeros(2, 3, dtype=torch.uint8)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.network[0].bias += 1
    program = onnx_file._trace(other, x)
    monkeypatch.setattr(onnx_file, "_trace", lambda *_: program)
    text = "must give the network's outputs within 0.0001 of the"
    refused(text, save_onnx, network, x, path, error=RuntimeError)
    same = "must give the same tensors, got others"
    monkeypatch.setattr(json_file, "load_json", lambda _: (other, {}))
    refused(same, save_json, network, path, error=RuntimeError)
    monkeypatch.setattr(safetensors_file, "load_safetensors", lambda *_: {})  # as a disk of zeros
    refused(same, save_safetensors, network, path, error=RuntimeError)
    model = QuantumTrain(nn.Linear(3, 2), 1)
    weights = {name: tensor * (1 + 1e-6) for name, tensor in model.weights().items()}
    model.weights = lambda: weights
    refused(same, save_compressed, model, path, error=RuntimeError)
    assert nothing_is_left(path)
    for found, text in (
        (torch.zeros(3), r"outputs of shape \(2,\), got \(3,\)"),
        (torch.full((2,), torch.nan), "a difference of nan"),
    ):
        refused(text, check_outputs, torch.zeros(2), found, error=RuntimeError)


# -- what is read


READERS = {
    "onnx": open_onnx,
    "json": load_json,
    "safetensors": lambda path: load_safetensors(linear(), path),
}


@pytest.mark.parametrize("name", READERS)
def test_truncated_tampered_foreign_and_missing_files(name, path):
    load = READERS[name]
    whole = WRITERS[name](linear(), torch.ones(2, 3), path).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 1
    last = whole[:-1] + bytes([whole[-1] ^ 1])
    cut = (whole[:length] for length in (0, 100, len(whole) // 2, len(whole) - 5, len(whole) - 1))
    for content in (*cut, changed, last, pickle.dumps({"weights": [1, 2]})):
        path.write_bytes(content)
        refused("path must be a", load, path)
    refused("No such file", load, path.parent / "none", error=FileNotFoundError)


def test_sealed_again_but_no_network(path):
    content = json.loads(save_json(FromPixels(linear(), 0.1, 0.3), path).read_text())
    layer = content["layers"][0]
    short = {**layer, "bias": {"shape": [8], "data": "AAAA"}}
    for changes, reason in (
        ({"format": "other"}, "format: Invalid enum value 'other'"),
        ({"version": 2}, "version: Invalid enum value 2"),
        ({"layers": [{"type": "lambda"}]}, "layers.*type: Invalid value 'lambda'"),
        ({"layers": [short]}, r"3 bytes for a tensor of shape \[8\]"),
        ({"layers": 7}, "layers: Expected `array`, got `int`"),
    ):
        path.write_text(json.dumps({**content, "seal": OPEN_SEAL, **changes}))
        seal_file(path)
        refused(f"as JSON, got .*{reason}", load_json, path)
    path.write_text(OPEN_SEAL)
    seal_file(path)
    refused("path must be an ONNX file", open_onnx, path)


def test_seal_must_be_there_once(path):
    for text, n in (("nothing", 0), (OPEN_SEAL * 2, 2)):
        path.write_text(text)
        for function in (seal_file, check_seal):
            refused(f"with {n} checksums instead of 1", function, path)


def test_files_of_another_network(tmp_path):
    path = save_safetensors(nn.Linear(3, 2), tmp_path / "a.safetensors")
    refused("path must hold the network's tensors", load_safetensors, nn.Linear(4, 2), path)
    for wrong in (None, nn.Linear):
        refused(r"network must be an nn\.Module, got ", load_safetensors, wrong, path)
    foreign = "path must be a file of save_compressed's"
    refused(foreign, load_compressed, path, nn.Linear(3, 2))
    save_safetensors(nn.Linear(3, 2), path, {"quantum_train": "[]"}, overwrite=True)
    refused(foreign, load_compressed, path, nn.Linear(3, 2))
    batchnorm = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    path = save_compressed(QuantumTrain(batchnorm, 1, names=["0.weight"]), tmp_path / "a.sft")
    before = torch.get_rng_state()
    load_compressed(path, batchnorm)
    assert torch.equal(before, torch.get_rng_state())
    shape = r"target must be the network of .*a.sft: '0.weight' of shape \[3, 5\]"
    for target, text in (
        (nn.Linear(4, 3), "names must list some of"),
        (nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), shape),
        (nn.Sequential(nn.Linear(4, 3)), "target must be the network of the file"),
    ):
        refused(text, load_compressed, path, target)
