"""Every format: outputs are the network's own; damaged and hostile files are refused."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from method.test_inject import TARGETS
from torch import nn

from qtlite import MappingNet, QuantumTrain, plain
from qtlite.experiments.models.released import CentredMappingNet, released
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import (
    FromPixels,
    check_seal,
    load_compressed,
    load_json,
    load_safetensors,
    quantise_onnx,
    save_compressed,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)
from qtlite.export.new_file import check_outputs, require
from qtlite.export.onnx_file import OPSET, open_onnx
from qtlite.export.seal import OPEN_SEAL, seal_file


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
    about = {"who": "I", "what": "ü"}
    return {
        "onnx": save_onnx(classifier, pixels, folder / "a.onnx", about),
        "pt2": save_torch_export(classifier, pixels, folder / "a.pt2", about),
        "json": save_json(classifier, folder / "a.json", about),
    }


def trained(name):
    """A target of test_inject's as training leaves it: weights injected, BatchNorm with a past."""
    torch.manual_seed(1)
    make, shape = TARGETS[name]
    x = torch.randn(shape)
    model = QuantumTrain(make(), n_blocks=2)
    model(x)
    return model.eval(), x, make


QUICK = ("conv", "lstm", "encoder")  # writing each twice takes seconds: the others in make prove


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TARGETS],
)
def test_every_injected_target_as_onnx_and_pt2(name, tmp_path):
    model, x, _ = trained(name)
    plain = model.to_classical()
    session = onnxruntime.InferenceSession(save_onnx(plain, x, tmp_path / "a.onnx"))
    again, _ = read_pt2(save_torch_export(plain, x, tmp_path / "a.pt2"))
    for n in (1, 2, 7):
        inputs = torch.randn(n, *x.shape[1:])
        with torch.no_grad():
            expected = model(inputs)
            torch.testing.assert_close(again(inputs), expected, atol=1e-5, rtol=0)
        (found,) = session.run(None, {"input": inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TARGETS)
def test_every_injected_target_compressed(name, tmp_path):
    model, _, make = trained(name)
    about = {"a": "b"}
    again, found = load_compressed(save_compressed(model, tmp_path / "a.sft", about), make())
    assert found == about
    for (key, before), (_, after) in zip(
        model.to_classical().state_dict().items(),
        again.to_classical().state_dict().items(),
        strict=True,
    ):
        assert torch.equal(before, after), key


def test_compressed_without_the_engine(tmp_path):
    model = QuantumTrain(nn.Linear(9, 8), 2)
    with plain():
        again, _ = load_compressed(save_compressed(model, tmp_path / "a.sft"), nn.Linear(9, 8))
        assert torch.equal(again.to_classical().weight, model.to_classical().weight)


def test_named_subset_in_every_form(tmp_path):
    target = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))
    model = QuantumTrain(target, 2, names=["0.weight"])
    with torch.no_grad():
        model.target[2].bias.fill_(7)
    plain, x = model.to_classical(), torch.randn(3, 9)
    again, _ = load_compressed(save_compressed(model, tmp_path / "a.sft"), target)
    assert torch.equal(again(x), model(x))
    expected = plain(x).detach()
    assert torch.equal(load_json(save_json(plain, tmp_path / "a.json"))[0](x), expected)
    session = open_onnx(save_onnx(plain, x, tmp_path / "a.onnx"))
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "attention", "encoder", "batchnorm", "conv"])
def test_json_says_what_it_cannot_hold(name, tmp_path):
    with pytest.raises(ValueError, match="for JSON.*got .*: use ONNX or torch.export"):
        save_json(TARGETS[name][0](), tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


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
    ],
)
def test_compressed_form_keeps_every_choice(options, tmp_path):
    model = QuantumTrain(nn.Linear(10, 5), 3, **options)
    again, _ = load_compressed(save_compressed(model, tmp_path / "a.sft"), nn.Linear(10, 5))
    assert torch.equal(again.to_classical().weight, model.to_classical().weight)


@pytest.mark.parametrize(
    "options", [{"feature": released}, {"mapping": CentredMappingNet(6)}], ids=["feature", "net"]
)
def test_compressed_form_of_parts_that_are_not_the_librarys(options, tmp_path):
    with pytest.raises(ValueError, match="must have a MappingNet and a feature of .*, got"):
        save_compressed(QuantumTrain(nn.Linear(10, 5), 3, **options), tmp_path / "a.sft")
    assert not list(tmp_path.iterdir())


def my_block(circuit, angles):
    for qubit, angle in enumerate(angles):
        circuit.rx(qubit, theta=angle)


def test_compressed_form_of_ones_own_block(tmp_path):
    model = QuantumTrain(nn.Linear(3, 2), 1, block=my_block)
    path = tmp_path / "a.sft"
    with pytest.raises(ValueError, match="block must be the model's own 'my_block', got 'ry_lin"):
        save_compressed(model, path)
    save_compressed(model, path, block=my_block)
    with pytest.raises(ValueError, match="block must be 'my_block' as in .*a.sft, got 'ry_lin"):
        load_compressed(path, nn.Linear(3, 2))
    again, _ = load_compressed(path, nn.Linear(3, 2), block=my_block)
    assert torch.equal(again.to_classical().weight, model.to_classical().weight)


def test_compressed_form_needs_a_circuit(tmp_path):
    class Fixed(nn.Module):
        def forward(self):
            return torch.full((8,), 1 / 8)

    model = QuantumTrain(nn.Linear(3, 2), qnn=Fixed())
    with pytest.raises(ValueError, match="model must get its probabilities from a QNN, got Fixed"):
        save_compressed(model, tmp_path / "a.sft")


def test_loading_a_compressed_form_leaves_the_global_generator_alone(tmp_path):
    path = save_compressed(QuantumTrain(nn.Linear(3, 2), 1), tmp_path / "a.sft")
    target, before = nn.Linear(3, 2), torch.get_rng_state()
    load_compressed(path, target)
    assert torch.equal(before, torch.get_rng_state())


def test_compressed_form_of_another_target_or_of_none(tmp_path):
    batchnorm = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    path = save_compressed(QuantumTrain(batchnorm, 1, names=["0.weight"]), tmp_path / "a.sft")
    with pytest.raises(ValueError, match="names must list some of"):
        load_compressed(path, nn.Linear(4, 3))
    with pytest.raises(
        ValueError, match=r"target must be the network of .*a.sft: '0.weight' of shape \[3, 5\]"
    ):
        load_compressed(path, nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match="target must be the network of the file"):
        load_compressed(path, nn.Sequential(nn.Linear(4, 3)))
    plain = save_safetensors(nn.Linear(3, 2), tmp_path / "b.sft")
    with pytest.raises(ValueError, match="path must be a file of save_compressed's"):
        load_compressed(plain, nn.Linear(3, 2))
    strange = save_safetensors(nn.Linear(3, 2), tmp_path / "c.sft", {"quantum_train": "[]"})
    with pytest.raises(ValueError, match="path must be a file of save_compressed's"):
        load_compressed(strange, nn.Linear(3, 2))


def read_pt2(path):
    """What PyTorch's users do with a file that they trust: network and metadata."""
    extra = {"qtlite.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own insides
        network = torch.export.load(path, extra_files=extra).module()
    return network, json.loads(extra["qtlite.json"])


def test_preprocessing_is_in_the_file(classifier, pixels, files):
    expected = classifier.network((pixels / 255 - 0.1307) / 0.3081).detach()
    session = open_onnx(files["onnx"])
    assert session.get_inputs()[0].type == "tensor(uint8)"
    (found,) = session.run(None, {"input": pixels.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for name, load in (("pt2", read_pt2), ("json", load_json)):
        torch.testing.assert_close(load(files[name])[0](pixels), expected, atol=1e-6, rtol=0)


def test_pixels_of_another_type_are_refused(classifier, pixels, files):
    with pytest.raises(ValueError, match="pixels must be uint8, 0 to 255, got torch.float32"):
        classifier(pixels / 255)
    with pytest.raises(Exception, match="Unexpected input data type"):
        open_onnx(files["onnx"]).run(None, {"input": (pixels / 255).numpy()})
    with pytest.raises(ValueError, match="std must be positive, got 0"):
        FromPixels(nn.Flatten(), 0.0, 0.0)


def test_metadata_come_back(files):
    expected = {"who": "I", "what": "ü"}
    found = open_onnx(files["onnx"]).get_modelmeta().custom_metadata_map
    assert {name: found[name] for name in expected} == expected
    assert read_pt2(files["pt2"])[1] == expected
    assert load_json(files["json"])[1] == expected


def test_onnx_is_of_the_stated_version_and_sound(files):
    import onnx

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


def test_existing_files_are_kept_unless_told(classifier, pixels, files):
    for name, path in files.items():
        before = path.read_bytes()
        save = {
            "onnx": lambda **k: save_onnx(classifier, pixels, files["onnx"], **k),
            "pt2": lambda **k: save_torch_export(classifier, pixels, files["pt2"], **k),
            "json": lambda **k: save_json(classifier, files["json"], **k),
        }[name]
        with pytest.raises(FileExistsError, match="path must be new unless overwrite is on"):
            save()
        assert path.read_bytes() == before


def test_a_file_that_gives_other_outputs_is_not_kept(classifier, pixels, tmp_path, monkeypatch):
    other = copy.deepcopy(classifier)
    with torch.no_grad():
        other.network[0].bias += 1
    from qtlite.export import json_file, onnx_file

    program = onnx_file._trace(other, pixels)
    monkeypatch.setattr(onnx_file, "_trace", lambda *_: program)
    with pytest.raises(RuntimeError, match="must give the network's outputs within 0.0001 of the"):
        save_onnx(classifier, pixels, tmp_path / "a.onnx")
    monkeypatch.setattr(json_file, "load_json", lambda _: (other, {}))
    with pytest.raises(
        RuntimeError, match="the written file must give the same tensors, got others"
    ):
        save_json(classifier, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match=r"outputs of shape \(2,\), got \(3,\)"):
        check_outputs(torch.zeros(2), torch.zeros(3))
    with pytest.raises(RuntimeError, match="a difference of nan"):
        check_outputs(torch.zeros(2), torch.full((2,), torch.nan))


def test_a_compressed_file_that_gives_other_weights_is_not_kept(tmp_path):
    model = QuantumTrain(nn.Linear(3, 2), 1)
    weights = model.weights()
    model.weights = lambda: {name: tensor * (1 + 1e-6) for name, tensor in weights.items()}
    with pytest.raises(RuntimeError, match="must give the same tensors, got others"):
        save_compressed(model, tmp_path / "a.sft")
    assert not list(tmp_path.iterdir())


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class Sums(nn.Module):
    def forward(self, x):
        return x.sum(0, keepdim=True)


class Branches(nn.Module):
    """Which operation runs depends on the numbers: no graph can hold it."""

    def forward(self, x):
        return x if bool(x.sum() > 0) else -x


def test_networks_and_examples_that_do_not_fit(tmp_path):
    for save in (save_onnx, save_torch_export):
        path = tmp_path / "a"
        with pytest.raises(ValueError, match="must return one tensor with .*, got tuple for 2"):
            save(TwoOutputs(), torch.ones(2, 3), path)
        with pytest.raises(ValueError, match=r"got \(1, 3\) for 2 inputs"):
            save(Sums(), torch.ones(2, 3), path)
        with pytest.raises(ValueError, match="example must hold at least 2 inputs, got 1"):
            save(nn.Linear(3, 2), torch.ones(1, 3), path)
        with pytest.raises(ValueError, match=r"example must hold inputs .*, got shape \(2, 4\): "):
            save(nn.Linear(3, 2), torch.ones(2, 4), path)
        with pytest.raises(ValueError, match="network must .*, got Branches"):
            save(Branches(), torch.ones(2, 3), path)
    with pytest.raises(ValueError, match="network must be float32 for JSON, got torch.float64"):
        save_json(nn.Sequential(nn.Linear(3, 2)).double(), tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


LOADERS = {"onnx": open_onnx, "json": load_json}


@pytest.mark.parametrize("name", LOADERS)
def test_truncated_tampered_foreign_and_missing_files(name, files, tmp_path):
    load, whole = LOADERS[name], files[name].read_bytes()
    path = tmp_path / files[name].name
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="path must be a"):
            load(path)
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="path must be a"):
        load(path)
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))
    with pytest.raises(ValueError, match="path must be a"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def test_tampered_safetensors(tmp_path):
    path = save_safetensors(nn.Linear(3, 2), tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="path must be a file as qtlite wrote it"):
        load_safetensors(nn.Linear(3, 2), path)


def test_sealed_again_but_no_network(files, tmp_path):
    path = tmp_path / "a"
    content = json.loads(files["json"].read_text())
    content["seal"] = OPEN_SEAL

    def resealed(**changes):
        path.write_text(json.dumps(content | changes))
        seal_file(path)
        return path

    load_json(resealed())
    layer = content["layers"][0]
    short = {**layer, "bias": {"shape": [8], "data": "AAAA"}}
    for changes, reason in (
        ({"format": "other"}, "format: Invalid enum value 'other'"),
        ({"version": 2}, "version: Invalid enum value 2"),
        ({"layers": [{"type": "lambda"}]}, "layers.*type: Invalid value 'lambda'"),
        ({"layers": [short]}, r"3 bytes for a tensor of shape \[8\]"),
        ({"layers": 7}, "layers: Expected `array`, got `int`"),
    ):
        with pytest.raises(ValueError, match=f"as JSON, got .*{reason}"):
            load_json(resealed(**changes))
    path.write_text(OPEN_SEAL)
    seal_file(path)
    with pytest.raises(ValueError, match="path must be an ONNX file"):
        open_onnx(path)


def test_seal_must_be_there_once(tmp_path):
    path = tmp_path / "a"
    for text, n in (("nothing", 0), (OPEN_SEAL * 2, 2)):
        path.write_text(text)
        for function in (seal_file, check_seal):
            with pytest.raises(ValueError, match=f"with {n} checksums instead of 1"):
                function(path)


def test_int8_keeps_what_the_file_says_and_is_smaller(files, pixels, tmp_path):
    path = quantise_onnx(files["onnx"], tmp_path / "a.onnx", pixels.numpy())
    session = open_onnx(path)
    about = session.get_modelmeta().custom_metadata_map
    assert (about["who"], about["quantisation"]) == ("I", "int8")
    assert path.stat().st_size < 0.7 * files["onnx"].stat().st_size
    (ours,) = session.run(None, {"input": pixels.numpy()})
    (whole,) = open_onnx(files["onnx"]).run(None, {"input": pixels.numpy()})
    assert np.abs(ours - whole).max() < 0.2 * np.abs(whole).max()
    with pytest.raises(ValueError, match="examples must hold at least one input, got none"):
        quantise_onnx(files["onnx"], path, pixels[:0].numpy())
    with pytest.raises(ValueError, match="source must take examples of type float64, got .*: "):
        quantise_onnx(files["onnx"], path, pixels.double().numpy(), overwrite=True)
    with pytest.raises(FileExistsError):
        quantise_onnx(files["onnx"], path, pixels.numpy())


@pytest.mark.parametrize("network", [None, nn.Linear])
def test_what_is_no_network(network, tmp_path):
    for write in (
        lambda path: save_json(network, path),
        lambda path: save_safetensors(network, path),
        lambda path: save_onnx(network, torch.ones(2, 3), path),
        lambda path: save_torch_export(network, torch.ones(2, 3), path),
    ):
        with pytest.raises(ValueError, match=r"network must be an nn\.Module, got "):
            write(tmp_path / "a")
    path = save_safetensors(nn.Linear(3, 2), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"network must be an nn\.Module, got "):
        load_safetensors(network, path)


def test_missing_package_says_what_to_install():
    with pytest.raises(ImportError, match="no_such must be installed .*'qtlite\\[export\\]'"):
        require("no_such")


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
    expected = classifier(pixels).detach()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-5)
