import pytest
import tensorcircuit as tc
import torch

from qtlite.circuit import build_circuit, ry_linear_cnot, ry_only
from qtlite.experiments.ansaetze import u3_ring_cu3


def names_and_qubits(circuit):
    return [(gate["name"], *gate["index"]) for gate in circuit.to_qir()]


def test_paper_block_is_ry_on_each_qubit_then_a_linear_chain():
    with tc.runtime_backend("pytorch"):
        circuit = build_circuit(3, torch.zeros(2, 3), ry_linear_cnot)
    block = [("ry", 0), ("ry", 1), ("ry", 2), ("cnot", 0, 1), ("cnot", 1, 2)]
    assert names_and_qubits(circuit) == block * 2


def test_blocks_take_their_own_row_of_angles():
    angles = torch.arange(6.0).reshape(2, 3)
    with tc.runtime_backend("pytorch"):
        gates = build_circuit(3, angles, ry_only).to_qir()
    assert [float(gate["parameters"]["theta"]) for gate in gates] == angles.flatten().tolist()


def test_released_block_is_u3_then_a_ring_of_cu3():
    with tc.runtime_backend("pytorch"):
        circuit = build_circuit(3, torch.zeros(1, 18), u3_ring_cu3)
    assert names_and_qubits(circuit) == [
        ("u", 0), ("u", 1), ("u", 2), ("cu", 0, 1), ("cu", 1, 2), ("cu", 2, 0)
    ]  # fmt: skip


def test_building_leaves_the_global_backend_alone():
    before = tc.backend.name
    with tc.runtime_backend("pytorch"):
        build_circuit(2, torch.zeros(1, 2))
    assert tc.backend.name == before


@pytest.mark.parametrize(
    ("n_qubits", "shape", "message"),
    [
        (0, (1, 1), "n_qubits must be a whole number from 1 to .*, got 0"),
        (2, (2,), r"angles must have shape \(blocks, angles per block\), got torch.Size\(\[2\]\)"),
    ],
)
def test_bad_input(n_qubits, shape, message):
    with pytest.raises(ValueError, match=message):
        build_circuit(n_qubits, torch.zeros(shape))
