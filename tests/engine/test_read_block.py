"""Reading a TensorCircuit block: what becomes of its gates, and every refusal."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from qtlite.circuit import ry_linear_cnot, ry_only
from qtlite.engine.read_block import NotRealAmplitude, read_block
from qtlite.experiments.ansaetze import u3_ring_cu3


def test_the_papers_block_is_one_layer_and_one_gather():
    block = read_block(ry_linear_cnot, n_qubits=5, n_angles=5)
    basis = np.arange(32)
    assert block.n_steps == 1
    assert block.rotated.all()
    np.testing.assert_array_equal(block.sources[0], basis ^ basis >> 1)
    assert block.signs is None
    np.testing.assert_array_equal(block.coefficients[0], np.eye(5))


def test_rotations_without_entanglement_permute_nothing():
    np.testing.assert_array_equal(read_block(ry_only, 3, 3).sources, [np.arange(8)])


def test_gathers_and_signs_are_undone_by_their_inverses():
    def block(circuit, angles):
        circuit.ry(0, theta=angles[0])
        circuit.toffoli(0, 1, 2)
        circuit.cz(1, 3)
        circuit.y(2)
        circuit.swap(0, 3)

    found = read_block(block, n_qubits=4, n_angles=1)
    state = np.random.default_rng(0).standard_normal(16)
    for step in range(found.n_steps):
        there = found.signs[step] * state[found.sources[step]]
        back = found.inverse_signs[step] * there[found.inverse_sources[step]]
        np.testing.assert_array_equal(back, state)


def test_angles_may_be_shared_scaled_and_shifted():
    def block(circuit, angles):
        circuit.ry(0, theta=2 * angles[1] - 0.5)
        circuit.ry(1, theta=angles[0] + angles[1])
        circuit.ry(2, theta=0.25)

    angles = torch.tensor([[1.0, 3.0], [0.0, -1.0]], dtype=torch.float64)
    found = read_block(block, n_qubits=3, n_angles=2).step_angles(angles)
    expected = torch.tensor([[5.5, 4.0, 0.25], [-2.5, -1.0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_rotations_that_commute_share_a_step_and_others_do_not():
    def block(circuit, angles):
        circuit.ry(0, theta=angles[0])
        circuit.cnot(0, 1)
        circuit.ry(2, theta=angles[1])  # its qubit has not been permuted
        circuit.ry(1, theta=angles[2])  # its qubit has

    rotated = read_block(block, n_qubits=3, n_angles=3).rotated
    assert rotated.tolist() == [[True, False, True], [False, True, False]]


def _depends_on_values(circuit, angles):
    if angles[0] > angles[1]:
        circuit.x(0)
    circuit.ry(0, theta=angles[0])


def _controlled_hadamard(circuit, angles):
    circuit.any(
        0, 1, unitary=np.block([[np.eye(2), np.zeros((2, 2))], [np.zeros((2, 2)), HADAMARD]])
    )


def _turn(angle):
    return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)


HADAMARD = np.array([[1, 1], [1, -1]]) / np.sqrt(2)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (_depends_on_values, "block must append the same gates whatever its angles are"),
        (
            _controlled_hadamard,
            r"gate 'any' on qubits \(0, 1\) must be Ry, controlled Ry, a one-qubit gate or a "
            "signed permutation for the engine",
        ),
        (
            lambda circuit, angles: circuit.ry(1, theta=angles[0] ** 2),
            r"gate 'ry' on qubits \(1,\) must have an angle that is affine in the block's angles "
            "for the engine",
        ),
        (
            lambda circuit, angles: circuit.any(0, unitary=_turn(angles[0])),
            r"gate 'any' on qubits \(0,\) must not depend on the angles for the engine",
        ),
        (
            lambda circuit, angles: circuit.rx(0, theta=angles[0]),
            r"gate 'rx' on qubits \(0,\) must have real entries for the engine",
        ),
        (
            lambda circuit, angles: circuit.t(1),
            r"gate 't' on qubits \(1,\) must have real entries for the engine",
        ),
        (
            lambda circuit, angles: circuit.any(0, unitary=np.array([[1.0, 1.0], [0.0, 1.0]])),
            r"gate 'any' on qubits \(0,\) must be unitary for the engine",
        ),
        (u3_ring_cu3, r"gate 'u' on qubits \(0,\) must have real entries for the engine"),
    ],
)
def test_refusals_name_the_gate(block, message):
    with pytest.raises(NotRealAmplitude, match=message):
        read_block(block, n_qubits=2, n_angles=12)


@pytest.mark.parametrize(
    "block",
    [
        lambda circuit, angles: circuit.ry(0, theta=angles[0].clamp(-1.5, 1.5)),
        lambda circuit, angles: circuit.ry(0, theta=angles[0].abs()),
        lambda circuit, angles: circuit.ry(0, theta=angles[0] ** 3),
    ],
)
def test_angles_that_are_not_affine_far_out_are_noticed(block):
    with pytest.raises(NotRealAmplitude, match="must have an angle that is affine"):
        read_block(block, n_qubits=1, n_angles=1)


def test_gates_that_come_and_go_with_large_angles_are_noticed():
    def block(circuit, angles):
        circuit.ry(0, theta=angles[0])
        if angles[0] > 1.2:
            circuit.x(0)

    with pytest.raises(NotRealAmplitude, match="the same gates whatever its angles"):
        read_block(block, n_qubits=1, n_angles=1)


def test_gate_without_a_matrix_is_refused():
    flip = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.complex128)
    with pytest.raises(NotRealAmplitude, match="must have a matrix for the engine"):
        read_block(
            lambda circuit, angles: circuit.multicontrol(0, 1, 2, ctrl=[1, 0], unitary=flip),
            n_qubits=3,
            n_angles=1,
        )


def angled(circuit, angles):
    """Rotations that take no angle as it is, and a gate that becomes a fixed rotation."""
    circuit.h(0)
    for qubit in range(3):
        circuit.ry(qubit, theta=0.5 * angles[0] + 0.1)
    circuit.cnot(0, 1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(mode):
    with mode():
        found = read_block(angled, 3, 1)
        angles = found.step_angles(torch.zeros(2, 1))  # keeps tensors for later
    np.testing.assert_array_equal(found.coefficients, read_block(angled, 3, 1).coefficients)
    # H is a flip of the sign of |1>, then a quarter turn
    one_block = [0, 0, 0, np.pi / 2 + 0.1, 0.1, 0.1]
    assert angles.flatten().tolist() == pytest.approx(one_block * 2, abs=1e-6)
    phi = torch.zeros(2, 1, requires_grad=True)
    found.step_angles(phi).sum().backward()
    assert phi.grad.tolist() == [[1.5], [1.5]]


def test_another_default_device_does_not_matter():
    with torch.device("meta"):
        found = read_block(angled, 3, 1)
    np.testing.assert_array_equal(found.sources, read_block(angled, 3, 1).sources)


def test_angles_keep_their_precision_under_autocast():
    block, angles = read_block(angled, 3, 1), torch.tensor([[1.2345678]])
    expected = block.step_angles(angles)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block.step_angles(angles), expected)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda circuit: circuit.mid_measurement(0, keep=0),
        lambda circuit: circuit.post_select(0, keep=1),
        lambda circuit: circuit.any(0, unitary=np.array([[0, 1], [1, 0]]), name="ry"),
    ],
)
def test_what_the_list_of_gates_does_not_tell_is_noticed(hidden):
    def block(circuit, angles):
        circuit.ry(0, theta=angles[0])
        circuit.cnot(0, 1)
        hidden(circuit)

    with pytest.raises(NotRealAmplitude, match="must do what TensorCircuit's list .* says"):
        read_block(block, 2, 1)


def test_a_block_that_wants_more_angles_is_told_how_many_there_are():
    def block(circuit, angles):
        circuit.ry(0, theta=angles[4])

    with pytest.raises(
        ValueError, match=r"to 2 qubits from 3 angles \(see angles_per_block\), got"
    ):
        read_block(block, 2, 3)


def test_threads_may_read_blocks_at_the_same_time():
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_block(angled, 3, 1), range(8)))
    assert {block.sources.tobytes() for block in found} == {found[0].sources.tobytes()}
