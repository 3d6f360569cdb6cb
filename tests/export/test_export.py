import os

import pytest
import torch
from torch import nn

from qtlite import QuantumTrain
from qtlite.export import (
    load_safetensors,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)


def test_everything_comes_back(tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    network(torch.randn(8, 3))
    again = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    path = save_safetensors(network, tmp_path / "new" / "network.safetensors", {"seed": "0"})
    assert load_safetensors(again, path) == {"seed": "0"}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    path = save_safetensors(nn.Linear(1, 1), tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_model_that_generates_its_weights_is_not_exported_as_it_is(tmp_path):
    model, x = QuantumTrain(nn.Linear(16, 8), 1), torch.zeros(1, 16)
    path = tmp_path / "model"
    for save in (save_safetensors, save_json):
        with pytest.raises(ValueError, match=r"got QuantumTrain: give its to_classical\(\)"):
            save(model, path)
    for save in (save_onnx, save_torch_export):
        with pytest.raises(ValueError, match=r"got QuantumTrain: give its to_classical\(\)"):
            save(model, x, path)
    assert not path.exists()


def test_the_same_network_gives_the_same_file(tmp_path):
    network, note = nn.Linear(2, 2), {name: name for name in "ebdac"}
    files = [save_safetensors(network, tmp_path / str(i), note).read_bytes() for i in range(4)]
    assert len(set(files)) == 1
    assert load_safetensors(nn.Linear(2, 2), tmp_path / "0") == note


def test_tied_weights(tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    again = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    again[1].weight = again[0].weight
    load_safetensors(again, save_safetensors(network, tmp_path / "tied.safetensors"))
    assert torch.equal(again[1].weight, network[0].weight)


def test_existing_file_is_kept_unless_told(tmp_path):
    path = save_safetensors(nn.Linear(1, 1), tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(
        FileExistsError, match="path must be new unless overwrite is on, got .*a.saf"
    ):
        save_safetensors(nn.Linear(1, 1), path)
    assert path.read_bytes() == before
    save_safetensors(nn.Linear(2, 1), path, overwrite=True)
    assert path.read_bytes() != before
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_and_foreign_files(tmp_path):
    path = save_safetensors(nn.Linear(3, 2), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="path must hold the network's tensors"):
        load_safetensors(nn.Linear(4, 2), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="path must be a whole safetensors file"):
        load_safetensors(nn.Linear(3, 2), path)
    with pytest.raises(FileNotFoundError):
        load_safetensors(nn.Linear(3, 2), tmp_path / "none.safetensors")
