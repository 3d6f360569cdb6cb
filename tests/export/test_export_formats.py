"""Every format: what is written and read gives the network's own outputs, weights and metadata."""

import json
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from method.test_inject import TARGETS
from refusals import refused
from torch import nn
from torch.testing import assert_close

from qtlite import MappingNet, QuantumTrain, plain
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import (
    FromPixels,
    load_compressed,
    load_json,
    load_safetensors,
    open_onnx,
    quantise_onnx,
    save_compressed,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)
from qtlite.export.checks import check_outputs
from qtlite.export.onnx_file import OPSET
from qtlite.export.seal import OPEN_SEAL, seal_file

ABOUT = {"who": "I", "what": "ü"}
WRITERS = {  # of network, inputs and path
    "onnx": save_onnx,
    "pt2": save_torch_export,
    "json": lambda network, _, *args, **options: save_json(network, *args, **options),
    "safetensors": lambda network, _, *args, **options: save_safetensors(network, *args, **options),
}


def read_pt2(path):
    """What PyTorch's users do with a file that they trust: network and metadata."""
    extra = {"qtlite.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own insides
        network = torch.export.load(path, extra_files=extra).module()
    return network, json.loads(extra["qtlite.json"])


def run_onnx(path, inputs):
    return torch.from_numpy(open_onnx(path).run(None, {"input": inputs.numpy()})[0])


def exactly(found, expected):
    assert_close(found, expected, rtol=0, atol=0)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return FromPixels(paper_cnn("mnist"), mean=0.1307, std=0.3081).eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)


@pytest.fixture(scope="module")
def files(classifier, pixels, tmp_path_factory):
    """The same network in every format."""
    folder = tmp_path_factory.mktemp("files")
    return {
        name: write(classifier, pixels, folder / f"a.{name}", ABOUT)
        for name, write in WRITERS.items()
    }


# -- outputs and weights


def trained(name):
    """A target of test_inject's as training leaves it: weights injected, BatchNorm with a past."""
    torch.manual_seed(1)
    make, shape = TARGETS[name]
    x = torch.randn(shape)
    model = QuantumTrain(make(), n_blocks=2)
    model(x)
    return model.eval(), x, make


# writing one twice takes seconds: in make prove the others, of which `classifier` is like most
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TARGETS if name != "lstm"]


@pytest.mark.parametrize("name", ["lstm", *SLOW])
def test_every_injected_target_as_onnx_and_pt2(name, tmp_path):
    model, x, _ = trained(name)
    plain = model.to_classical()
    path = save_onnx(plain, x, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(path)
    if name == "lstm":  # open_onnx limits what a file may cost, which it cannot do for a loop
        text = "must be an ONNX file of a feed-forward network, .*'Expand'"
        refused(text, open_onnx, path)
    again, _ = read_pt2(save_torch_export(plain, x, tmp_path / "a.pt2"))
    for n in (1, 2, 7):
        inputs = torch.randn(n, *x.shape[1:])
        with torch.no_grad():
            expected = model(inputs)
            assert_close(again(inputs), expected, atol=1e-5, rtol=0)
        (found,) = session.run(None, {"input": inputs.numpy()})
        assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TARGETS)
def test_every_injected_target_compressed(name, tmp_path):
    model, _, make = trained(name)
    again, found = load_compressed(save_compressed(model, tmp_path / "a.sft", ABOUT), make())
    assert found == ABOUT
    exactly(again.to_classical().state_dict(), model.to_classical().state_dict())


@pytest.mark.parametrize("with_engine", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {
            "feature": "raw",
            "mapping": MappingNet(6, (3,), activation="none", bit_values=(0.0, 1.0)),
        },
        {"feature": "root", "mapping": MappingNet(6, activation="first")},
        {"normalisation": "tensor", "weight_gain": 1.0},
        {"normalisation": "none"},
        {},
    ],
)
def test_compressed_form_keeps_every_choice(options, with_engine, tmp_path):
    model = QuantumTrain(nn.Linear(10, 5), 3, **options)
    with nullcontext() if with_engine else plain():
        again, _ = load_compressed(save_compressed(model, tmp_path / "a.sft"), nn.Linear(10, 5))
        exactly(again.to_classical().weight, model.to_classical().weight)


def test_named_subset_of_the_weights(tmp_path):
    target = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))
    model = QuantumTrain(target, 2, names=["0.weight"])
    with torch.no_grad():
        model.target[2].bias.fill_(7)
    network, x = model.to_classical(), torch.randn(3, 9)
    again, _ = load_compressed(save_compressed(model, tmp_path / "a.sft"), target)
    exactly(again(x), model(x))
    exactly(load_json(save_json(network, tmp_path / "a.json"))[0](x), network(x))


def test_tied_tensors(tmp_path):
    """What ``names`` leaves out may be one tensor under two names."""

    def make():
        target = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        target[1].weight = target[0].weight
        return target

    model, x = QuantumTrain(make(), 2, names=["2.weight"]), torch.randn(3, 4)
    again, _ = load_compressed(save_compressed(model, tmp_path / "a.safetensors"), make())
    exactly(again(x), model(x))
    network, read = again.to_classical(), make()
    assert network[1].weight is network[0].weight
    load_safetensors(read, save_safetensors(network, tmp_path / "b.safetensors"))
    exactly(read.state_dict(), network.state_dict())


def my_block(circuit, angles):
    for qubit, angle in enumerate(angles):
        circuit.rx(qubit, theta=angle)


def test_compressed_form_of_ones_own_block(tmp_path):
    model, path = QuantumTrain(nn.Linear(3, 2), 1, block=my_block), tmp_path / "a.sft"
    text = "block must be the model's own 'my_block', got 'ry_lin"
    refused(text, save_compressed, model, path)
    save_compressed(model, path, block=my_block)
    text = "block must be 'my_block' as in .*a.sft, got 'ry_lin"
    refused(text, load_compressed, path, nn.Linear(3, 2))
    again, _ = load_compressed(path, nn.Linear(3, 2), block=my_block)
    exactly(again.to_classical().weight, model.to_classical().weight)


def test_rounding_of_another_machine_is_not_refused(tmp_path):
    """The fingerprint allows what another order of sums changes, and far more."""
    path = save_compressed(QuantumTrain(nn.Linear(10, 5), 2), tmp_path / "a.safetensors")
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    stored = json.loads(json.loads(content[8:size])["__metadata__"]["quantum_train"])
    again, _ = load_compressed(path, nn.Linear(10, 5))
    for name, weight in again.to_classical().state_dict().items():
        moved = (weight * (1 + 1e-5 * torch.randn_like(weight))).double().flatten()
        for rate, projection in enumerate(stored["fingerprint"][name]):
            found = float(moved @ torch.cos(rate * torch.arange(len(moved)).double()))
            assert abs(found - projection) < 1e-3 * moved.norm()


def test_buffers_come_back_infinite_ones_too(tmp_path):
    """Statistics of a batch normalisation; an attention mask."""

    def make():
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        network.register_buffer("mask", torch.zeros(2, 2))
        return network

    network, again = make(), make()
    network(torch.randn(8, 3))
    network.mask += torch.full((2, 2), -torch.inf).triu(1)
    path = save_safetensors(network, tmp_path / "new" / "network.safetensors", {"seed": "0"})
    assert load_safetensors(again, path) == {"seed": "0"}
    exactly(again.state_dict(), network.state_dict())


def test_from_pixels_of_double_precision(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    pixels = torch.randint(256, (5, 1, 2, 2), dtype=torch.uint8)
    expected = network((pixels.double() / 255 - 0.25) / 0.5).detach()
    classify = FromPixels(network, 0.25, 0.5)
    assert_close(classify(pixels).detach(), expected, rtol=1e-6, atol=1e-6)
    found = run_onnx(save_onnx(classify, pixels, tmp_path / "a.onnx"), pixels)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)
    save_torch_export(classify, pixels, tmp_path / "a.pt2")


def test_outputs_of_any_size_are_compared_relative_to_their_size(tmp_path):
    """Sums of 500 numbers in another order differ by about 1e-6 of their size."""
    torch.manual_seed(0)
    network, expected = nn.Linear(500, 10, bias=False), torch.randn(100)
    for size in (1e-9, 1e20):
        with torch.no_grad():
            network.weight.normal_().mul_(size)
        save_onnx(network, torch.randn(4, 500), tmp_path / f"{size}.onnx")
    for size in (1e-9, 1e-3, 1.0, 1e5, 1e20):
        check_outputs(size * expected, size * expected * (1 + 1e-5))
        if size >= 1e-3:
            text, other = r"within 0.0001 of the largest, .*, got a diff", expected * (1 + 1e-3)
            refused(text, check_outputs, size * expected, size * other, error=RuntimeError)


def test_preprocessing_and_metadata_are_in_the_file(classifier, pixels, files):
    expected = classifier.network((pixels / 255 - 0.1307) / 0.3081).detach()
    session = open_onnx(files["onnx"])
    assert session.get_inputs()[0].type == "tensor(uint8)"
    assert_close(run_onnx(files["onnx"], pixels), expected, atol=1e-5, rtol=0)
    assert ABOUT.items() <= session.get_modelmeta().custom_metadata_map.items()
    for name, load in (("pt2", read_pt2), ("json", load_json)):
        network, about = load(files[name])
        assert_close(network(pixels), expected, atol=1e-6, rtol=0)
        assert about == ABOUT
    refused("pixels must be uint8, 0 to 255, got torch.float32", classifier, pixels / 255)
    text = "Unexpected input data type"
    refused(text, run_onnx, files["onnx"], pixels / 255, error=Exception)


def test_onnx_needs_neither_torch_nor_tensorcircuit(files, pixels, classifier, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    program = f"""
import sys
for name in ("torch", "tensorcircuit", "onnx", "qtlite"):
    sys.modules[name] = None  # an import of it fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(files["onnx"])!r})
np.save("logits.npy", session.run(None, {{"input": np.load("pixels.npy")}})[0])
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    found = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    assert_close(found, classifier(pixels).detach(), atol=1e-5, rtol=0)


def test_int8_keeps_what_the_file_says_and_is_smaller(files, pixels, tmp_path):
    path = quantise_onnx(files["onnx"], tmp_path / "a.onnx", pixels.numpy())
    about = open_onnx(path).get_modelmeta().custom_metadata_map
    assert (about["who"], about["quantisation"]) == ("I", "int8")
    assert path.stat().st_size < 0.7 * files["onnx"].stat().st_size
    ours, whole = run_onnx(path, pixels), run_onnx(files["onnx"], pixels)
    assert (ours - whole).abs().max() < 0.2 * whole.abs().max()
    quantise, source = quantise_onnx, files["onnx"]
    text = "examples must hold at least one input, got none"
    refused(text, quantise, source, path, pixels[:0].numpy())
    text = "source must take examples of type float64, got .*: "
    refused(text, quantise, source, path, pixels.double().numpy(), overwrite=True)
    text = "path must be new unless overwrite is on"
    refused(text, quantise, source, path, pixels.numpy(), error=FileExistsError)


# -- files


def test_onnx_is_of_the_stated_version_and_sound(files):
    model = onnx.load(files["onnx"])
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_no_file_names_a_folder_of_this_machine(files):
    for path in files.values():
        content = path.read_bytes()
        assert b"site-packages" not in content
        assert b"qtlite/export" not in content


def test_a_slice_does_not_take_its_images_along(classifier, tmp_path):
    many = torch.zeros(10_000, 1, 28, 28, dtype=torch.uint8)
    path = save_torch_export(classifier, many[:2], tmp_path / "a.pt2")
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("name", WRITERS)
def test_existing_files_are_kept_unless_told(name, tmp_path):
    write, x, path = WRITERS[name], torch.randn(2, 3), tmp_path / "a"
    network = nn.Sequential(nn.Linear(3, 2))
    before = write(network, x, path).read_bytes()
    text = "path must be new unless overwrite is on, got .*a"
    refused(text, write, network, x, path, error=FileExistsError)
    assert path.read_bytes() == before
    write(nn.Sequential(nn.Linear(3, 4)), x, path, overwrite=True)
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_network_gives_the_same_file(tmp_path):
    network, note = nn.Linear(2, 2), {name: name for name in "ebdac"}
    files = [save_safetensors(network, tmp_path / str(i), note).read_bytes() for i in range(4)]
    assert len(set(files)) == 1
    assert load_safetensors(nn.Linear(2, 2), tmp_path / "0") == note


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    path = save_safetensors(nn.Linear(1, 1), tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_files_of_earlier_versions_are_read(tmp_path):
    """Text of a JSON file as Python's json writes it, with spaces and another order of keys."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Flatten())
    path = save_json(FromPixels(network, 0.1, 0.3), tmp_path / "a.json", {"a": "b"})
    content = json.loads(path.read_text())
    digest = content.pop("seal").rpartition(":")[2]
    path.write_text(json.dumps({"layers": content.pop("layers"), **content, "seal": OPEN_SEAL}))
    seal_file(path)
    assert digest not in path.read_text()
    pixels = torch.randint(256, (2, 1, 4, 4), dtype=torch.uint8)
    again, about = load_json(path)
    assert about == {"a": "b"}
    exactly(again(pixels), FromPixels(network, 0.1, 0.3)(pixels))
