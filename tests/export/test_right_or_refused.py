"""What a format cannot hold is refused with its cure; what it holds is right."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from qtlite import QuantumTrain
from qtlite.export import (
    FromPixels,
    load_compressed,
    load_json,
    load_safetensors,
    open_onnx,
    save_compressed,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)
from qtlite.export.new_file import check_outputs

GRAPHS = (save_onnx, save_torch_export)


class FixedBatch(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.layer, self.own = nn.Linear(3, 2), forward

    def forward(self, x):
        return self.own(self.layer(x))


@pytest.mark.parametrize("save", GRAPHS)
@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.view(4, 2),
        lambda x: x + torch.arange(4.0)[:, None],
        lambda x: x - x.mean(0),
    ],
)
def test_a_network_with_a_fixed_batch_is_refused_with_its_cure(save, forward, tmp_path):
    with pytest.raises(ValueError, match=r"must take a batch of any length, got .* for 1 input in "
                       r"place of 4: use x.shape\[0\] or -1 where a length is"):  # fmt: skip
        save(FixedBatch(forward), torch.randn(4, 3), tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_onnx_of_half_precision_is_refused_with_its_cure(dtype, tmp_path):
    network, x = nn.Linear(3, 2).to(dtype), torch.randn(2, 3, dtype=dtype)
    with pytest.raises(ValueError, match=f"float32 or float64, got {dtype}: call .float"):
        save_onnx(network, x, tmp_path / "a.onnx")
    save_onnx(network.float(), x.float(), tmp_path / "a.onnx")
    save_torch_export(network.to(dtype), x, tmp_path / "a.pt2")
    with pytest.raises(ValueError, match="float32 or float64, got torch.bfloat16"):
        save_onnx(nn.Linear(3, 2), torch.randn(2, 3).bfloat16(), tmp_path / "b.onnx")


@pytest.mark.parametrize("save", GRAPHS)
def test_an_example_that_requires_grad_is_only_an_example(save, tmp_path):
    x = torch.randn(2, 3, requires_grad=True)
    path = save(nn.Linear(3, 2), x, tmp_path / "a")
    assert path.exists()
    assert x.requires_grad
    assert x.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_from_pixels_of_either_precision(dtype, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).to(dtype)
    pixels = torch.randint(256, (5, 1, 2, 2), dtype=torch.uint8)
    expected = network((pixels.to(dtype) / 255 - 0.25) / 0.5).detach()
    classify = FromPixels(network, 0.25, 0.5)
    torch.testing.assert_close(classify(pixels).detach(), expected, rtol=1e-6, atol=1e-6)
    session = open_onnx(save_onnx(classify, pixels, tmp_path / "a.onnx"))
    (found,) = session.run(None, {"input": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-6)
    save_torch_export(classify, pixels, tmp_path / "a.pt2")


def test_from_pixels_refuses_what_gives_no_numbers():
    for mean, std, text in (
        (0.0, 0.0, "std must be positive"), (0.0, float("inf"), "std must be positive"),
        (0.0, float("nan"), "std must be positive"), (float("nan"), 1.0, "mean must be finite"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{text}, got"):
            FromPixels(nn.Flatten(), mean, std)


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 1e5, 1e20])
def test_outputs_of_any_size_are_compared_relative_to_their_size(size, tmp_path):
    """Sums of 500 numbers in another order differ by about 1e-6 of their size."""
    torch.manual_seed(0)
    network = nn.Linear(500, 10, bias=False)
    with torch.no_grad():
        network.weight *= size
    save_onnx(network, torch.randn(4, 500), tmp_path / "a.onnx")
    expected = torch.randn(100) * size
    check_outputs(expected, expected * (1 + 1e-5))
    if size >= 1e-3:
        with pytest.raises(RuntimeError, match=r"within 0.0001 of the largest, .*, got a diff"):
            check_outputs(expected, expected * (1 + 1e-3))


def test_tied_tensors_in_the_compressed_form(tmp_path):
    """What ``names`` leaves out may be one tensor under two names."""

    def make():
        target = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        target[1].weight = target[0].weight
        return target

    model = QuantumTrain(make(), 2, names=["2.weight"])
    again, _ = load_compressed(save_compressed(model, tmp_path / "a.safetensors"), make())
    x = torch.randn(3, 4)
    assert torch.equal(again(x), model(x))
    plain = again.to_classical()
    assert plain[1].weight is plain[0].weight


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_not_written(number, tmp_path):
    network, x = nn.Sequential(nn.Linear(3, 2)), torch.zeros(2, 3)
    model = QuantumTrain(nn.Linear(3, 2), 1)
    with torch.no_grad():
        network[0].weight[1, 2] = number
        model.qnn.angles[0, 0] = number
    path = tmp_path / "a"
    for save, name in (
        (lambda: save_safetensors(network, path), "0.weight"),
        (lambda: save_json(network, path), "0.weight"),
        (lambda: save_onnx(network, x, path), "0.weight"),
        (lambda: save_torch_export(network, x, path), "0.weight"),
        (lambda: save_compressed(model, path), "qnn.angles"),
    ):
        with pytest.raises(ValueError, match=f"must have finite weights, got .* in '{name}'"):
            save()
    assert not list(tmp_path.iterdir())


def test_a_buffer_may_be_infinite(tmp_path):
    """Such as an attention mask."""
    network, again = nn.Linear(3, 2), nn.Linear(3, 2)
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    again.register_buffer("mask", torch.zeros(2, 2))
    load_safetensors(again, save_safetensors(network, tmp_path / "a.safetensors"))
    assert torch.equal(again.mask, network.mask)


def test_only_a_model_with_a_circuit_has_a_compressed_form(tmp_path):
    with pytest.raises(ValueError, match="model must be a QuantumTrain, got Linear"):
        save_compressed(nn.Linear(3, 2), tmp_path / "a")


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


def test_a_file_that_was_not_read_back_is_not_kept(tmp_path, monkeypatch):
    """As on a disk that returns zeros."""
    from qtlite.export import safetensors_file

    monkeypatch.setattr(safetensors_file, "load_safetensors", lambda *_: {})
    with pytest.raises(RuntimeError, match="must give the same tensors, got others"):
        save_safetensors(nn.Linear(3, 2), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_of_earlier_versions_are_read(tmp_path):
    """Text of a JSON file as Python's json writes it, with spaces and another order of keys."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Flatten())
    path = save_json(FromPixels(network, 0.1, 0.3), tmp_path / "a.json", {"a": "b"})
    content = json.loads(path.read_text())
    digest, zeros = content.pop("seal").rpartition(":")[2], 64 * "0"
    content = {"layers": content.pop("layers"), **content, "seal": f"qtlite-sha256:{zeros}"}
    path.write_text(json.dumps(content))
    from qtlite.export.seal import seal_file

    seal_file(path)
    assert digest not in path.read_text()
    pixels = torch.randint(256, (2, 1, 4, 4), dtype=torch.uint8)
    again, about = load_json(path)
    assert about == {"a": "b"}
    assert torch.equal(again(pixels), FromPixels(network, 0.1, 0.3)(pixels))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0][:, -1]


def test_a_recurrent_network_is_written_and_left_to_onnx_runtime(tmp_path):
    """``open_onnx`` limits what a file may cost, which it cannot do for a loop."""
    network, x = Recurrent(), torch.randn(2, 5, 3)
    path = save_onnx(network, x, tmp_path / "a.onnx")
    with pytest.raises(
        ValueError, match="must be an ONNX file of a feed-forward network, .*'Expand'"
    ):
        open_onnx(path)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, network(x).detach(), atol=1e-5)
