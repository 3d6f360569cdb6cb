"""Reading a TensorCircuit block: what becomes of its gates, and every refusal."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite.engine.read_block import NotRealAmplitude, read_block
from qtlite.experiments.ansaetze import u3_ring_cu3


def test_angles_may_be_shared_scaled_and_shifted():
    def block(circuit, angles):
        circuit.ry(0, theta=2 * angles[1] - 0.5)
        circuit.ry(1, theta=angles[0] + angles[1])
        circuit.ry(2, theta=0.25)

    angles = torch.tensor([[1.0, 3.0], [0.0, -1.0]], dtype=torch.float64)
    found = read_block(block, n_qubits=3, n_angles=2).step_angles(angles)
    expected = torch.tensor([[5.5, 4.0, 0.25], [-2.5, -1.0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_refusals_name_the_gate():
    def turn(angle):
        return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)

    hadamard, identity = np.array([[1, 1], [1, -1]]) / np.sqrt(2), np.eye(2)
    controlled = np.kron(np.diag([1, 0]), identity) + np.kron(np.diag([0, 1]), hadamard)
    flip = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.complex128)
    real, affine = "must have real entries for the engine", "must have an angle that is affine"
    other = "must be Ry, controlled Ry, a one-qubit gate or a signed permutation for the engine"
    for gates, text in (
        (lambda c, a: c.any(0, 1, unitary=controlled), rf"'any' on qubits \(0, 1\) {other}"),
        (lambda c, a: c.ry(1, theta=a[0] ** 2), rf"gate 'ry' on qubits \(1,\) {affine} in the blo"),
        (lambda c, a: c.ry(0, theta=a[0] ** 3), affine),
        (lambda c, a: c.ry(0, theta=a[0].clamp(-1.5, 1.5)), affine),
        (lambda c, a: c.ry(0, theta=a[0].abs()), affine),
        (lambda c, a: c.any(0, unitary=turn(a[0])), "must not depend on the angles for the engi"),
        (lambda c, a: c.rx(0, theta=a[0]), rf"gate 'rx' on qubits \(0,\) {real}"),
        (lambda c, a: c.t(1), rf"gate 't' on qubits \(1,\) {real}"),
        (u3_ring_cu3, rf"gate 'u' on qubits \(0,\) {real}"),
        (lambda c, a: c.any(0, unitary=np.triu(np.ones((2, 2)))), "must be unitary for the engine"),
        (
            lambda c, a: c.multicontrol(0, 1, ctrl=[1], unitary=flip),
            "must have a matrix for the engine",
        ),
    ):
        refused(text, read_block, gates, 2, 12, error=NotRealAmplitude)


@pytest.mark.parametrize("border", [1e-3, 1.2])
def test_gates_that_come_and_go_with_the_angles_are_noticed(border):
    def block(circuit, angles):
        circuit.ry(0, theta=angles[0])
        if angles[0] > border:
            circuit.x(0)

    text = "block must append the same gates whatever its angles are"
    refused(text, read_block, block, 1, 1, error=NotRealAmplitude)


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


def test_another_default_device_and_autocast_and_threads_do_not_matter():
    block, angles = read_block(angled, 3, 1), torch.tensor([[1.2345678]])
    with torch.device("meta"):
        np.testing.assert_array_equal(read_block(angled, 3, 1).sources, block.sources)
    expected = block.step_angles(angles)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block.step_angles(angles), expected)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_block(angled, 3, 1), range(8)))
    assert {each.sources.tobytes() for each in found} == {block.sources.tobytes()}


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

    text = "must do what TensorCircuit's list .* says"
    refused(text, read_block, block, 2, 1, error=NotRealAmplitude)


def test_a_block_that_wants_more_angles_is_told_how_many_there_are():
    text = r"to 2 qubits from 3 angles \(see angles_per_block\), got"
    refused(text, read_block, lambda circuit, angles: circuit.ry(0, theta=angles[4]), 2, 3)
