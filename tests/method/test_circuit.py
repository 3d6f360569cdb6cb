import tensorcircuit as tc
import torch
from refusals import refused

from qtlite.circuit import build_circuit


def test_building_leaves_the_global_backend_alone():
    before = tc.backend.name
    with tc.runtime_backend("pytorch"):
        build_circuit(2, torch.zeros(1, 2))
    assert tc.backend.name == before


def test_bad_input():
    number = "n_qubits must be a whole number from 1 to .*, got 0"
    refused(number, build_circuit, 0, torch.zeros(1, 1))
    shape = r"angles must have shape \(blocks, angles per block\), got torch.Size\(\[2\]\)"
    refused(shape, build_circuit, 2, torch.zeros(2))
