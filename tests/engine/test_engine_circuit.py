"""The fused simulator against TensorCircuit, PennyLane and dense matrices: values and gradients."""

import math
import multiprocessing
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pennylane as qml
import pytest
import tensorcircuit as tc
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qtlite import engine
from qtlite.circuit import build_circuit, ry_linear_cnot
from qtlite.engine import circuit as fused
from qtlite.engine import threads
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.compiled import circuit as fused_numba
from qtlite.engine.compiled import compiling, divided
from qtlite.engine.compiled import plan as compiled_plan
from qtlite.engine.compiled.compiling import can_compile, compiled
from qtlite.engine.read_block import read_block

pytestmark = pytest.mark.usefixtures("one_thread")

PERMUTATIONS = {"x": 1, "y": 1, "z": 1, "cnot": 2, "cz": 2, "swap": 2, "toffoli": 3}
N_ANGLES, N_BLOCKS = 4, 2


def probabilities(block, angles):
    return fused.probabilities(fused.Prepared(block, ""), angles)


def expected_z(block, angles, qubits):
    return fused.expectations(fused.Prepared(block, ""), angles, qubits)


@dataclass(frozen=True)
class Gate:
    """A rotation by scale * angles[which] + shift, or a fixed gate; ``any`` is Ry(shift)."""

    name: str
    qubits: tuple[int, ...]
    which: int = 0
    scale: float = 1.0
    shift: float = 0.0
    mirrored: bool = False

    def angle(self, angles):
        return self.scale * angles[self.which] + self.shift

    def matrix(self, angle: float, order: int = 0) -> np.ndarray:
        """The gate's matrix, or its derivative of that order by the angle."""
        if self.name in ("ry", "cry"):
            half = (angle + order * math.pi) / 2
            turn = np.array([[math.cos(half), -math.sin(half)], [math.sin(half), math.cos(half)]])
            turn = turn / 2**order
            if self.name == "ry":
                return turn
            return np.kron(np.diag([0, 1]), turn) + (order == 0) * np.kron(
                np.diag([1, 0]), np.eye(2)
            )
        return {
            "h": qml.matrix(qml.Hadamard(0)),
            "x": qml.matrix(qml.X(0)),
            "y": qml.matrix(qml.Y(0)),
            "z": qml.matrix(qml.Z(0)),
            "cnot": qml.matrix(qml.CNOT([0, 1])),
            "cz": qml.matrix(qml.CZ([0, 1])),
            "swap": qml.matrix(qml.SWAP([0, 1])),
            "toffoli": qml.matrix(qml.Toffoli([0, 1, 2])),
            "any": qml.matrix(qml.RY(self.shift, 0)).real
            @ np.diag([1, -1 if self.mirrored else 1]),
        }[self.name]


def block_of(gates):
    """The gates as a TensorCircuit block."""

    def block(circuit, angles):
        for gate in gates:
            if gate.name in ("ry", "cry"):
                getattr(circuit, gate.name)(*gate.qubits, theta=gate.angle(angles))
            elif gate.name == "any":
                circuit.any(*gate.qubits, unitary=gate.matrix(0.0))
            else:
                getattr(circuit, gate.name)(*gate.qubits)

    return block


@st.composite
def circuits(draw, max_qubits: int = 10):
    """N and a block of real gates in any order."""
    n_qubits = draw(st.integers(1, max_qubits))
    sizes = {"ry": 1, "cry": 2, "h": 1, "any": 1} | PERMUTATIONS
    names = [name for name, size in sizes.items() if size <= n_qubits]
    gates = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=12)):
        qubits = tuple(draw(st.permutations(range(n_qubits)))[: sizes[name]])
        gates.append(
            Gate(
                name,
                qubits,
                which=draw(st.integers(0, N_ANGLES - 1)),
                scale=draw(st.sampled_from([1.0, -0.5, 2.0])),
                shift=draw(st.sampled_from([0.0, 0.7, -2.9])),
                mirrored=draw(st.booleans()),
            )
        )
    return n_qubits, gates


def sample(n_qubits, dtype=torch.float64, n_blocks=N_BLOCKS, n_angles=N_ANGLES):
    """Angles that require gradients, and what the loss multiplies the probabilities by."""
    generator = torch.Generator().manual_seed(n_qubits)
    angles = (torch.rand(n_blocks, n_angles, generator=generator, dtype=torch.float64) - 0.5) * 9
    weights = torch.randn(2**n_qubits, generator=generator, dtype=torch.float64)
    return angles.to(dtype).requires_grad_(), weights.to(dtype)


def with_gradient(probabilities, angles, weights):
    loss = (probabilities * weights).sum() + 0 * angles.sum()  # a circuit may use no angle
    return probabilities.detach(), torch.autograd.grad(loss, angles)[0]


def by_fused(module, found, angles, weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "loops_for", lambda *_: module)
        return with_gradient(probabilities(found, angles), angles, weights)


def by_tensorcircuit(n_qubits, block, angles, weights):
    with tc.runtime_backend("pytorch"), tc.runtime_dtype("complex128"):
        return with_gradient(build_circuit(n_qubits, angles, block).probability(), angles, weights)


def by_pennylane(n_qubits, gates, angles, weights):
    operations = {
        "h": qml.Hadamard, "x": qml.X, "y": qml.Y, "z": qml.Z, "cnot": qml.CNOT, "cz": qml.CZ,
        "swap": qml.SWAP, "toffoli": qml.Toffoli, "ry": qml.RY, "cry": qml.CRY,
    }  # fmt: skip

    @qml.qnode(
        qml.device("default.qubit", wires=n_qubits), interface="torch", diff_method="backprop"
    )
    def circuit():
        for row in angles:
            for gate in gates:
                if gate.name in ("ry", "cry"):
                    operations[gate.name](gate.angle(row), wires=gate.qubits)
                elif gate.name == "any":
                    qml.QubitUnitary(gate.matrix(0.0), wires=gate.qubits)
                else:
                    operations[gate.name](wires=gate.qubits)
        return qml.probs(wires=range(n_qubits))

    return with_gradient(circuit(), angles, weights)


def by_dense_matrices(n_qubits, gates, angles, weights):
    """The chain rule written out: each rotation's matrix in turn replaced by its derivative."""

    def embed(matrix, qubits):
        rest = [qubit for qubit in range(n_qubits) if qubit not in qubits]
        full = np.kron(matrix, np.eye(2 ** len(rest))).reshape([2] * 2 * n_qubits)
        axes = np.argsort([*qubits, *rest])
        return full.transpose([*axes, *(axes + n_qubits)]).reshape(2**n_qubits, 2**n_qubits)

    angles, weights = angles.detach().numpy(), weights.numpy()
    placed = [(row, gate, gate.angle(angles[row])) for row in range(len(angles)) for gate in gates]
    state = np.eye(2**n_qubits)[0]
    tangents = []
    for row, gate, angle in placed:
        full = embed(gate.matrix(angle), gate.qubits)
        tangents = [(place, scale, full @ tangent) for place, scale, tangent in tangents]
        if gate.name in ("ry", "cry"):
            tangent = embed(gate.matrix(angle, order=1), gate.qubits) @ state
            tangents.append(((row, gate.which), gate.scale, tangent))
        state = full @ state
    gradient = np.zeros_like(angles)
    for place, scale, tangent in tangents:
        gradient[place] += scale * 2 * (weights * (state.conj() * tangent).real).sum()
    return torch.from_numpy(np.abs(state) ** 2), torch.from_numpy(gradient)


def assert_same(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=tolerance * scale)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(circuits())
def test_both_engines_agree_on_any_real_circuit(circuit):
    n_qubits, gates = circuit
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    exact = by_fused(fused_torch, block, *sample(n_qubits))
    assert_same(by_fused(fused_numba, block, *sample(n_qubits)), exact, 1e-12)
    single = sample(n_qubits, torch.float32)
    rounded = sample(n_qubits)[0].detach().float().double().requires_grad_()
    exact = by_fused(fused_torch, block, rounded, single[1].double())
    for module in (fused_numba, fused_torch):
        assert_same(by_fused(module, block, *single), exact, 1e-5)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(circuits(max_qubits=5))
def test_any_real_circuit_against_three_references(circuit):
    n_qubits, gates = circuit
    angles, weights = sample(n_qubits)
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    found = by_fused(fused_numba, block, angles, weights)
    assert_same(found, by_dense_matrices(n_qubits, gates, angles, weights), 1e-10)
    assert_same(found, by_tensorcircuit(n_qubits, block_of(gates), angles, weights), 1e-10)
    assert_same(found, by_pennylane(n_qubits, gates, angles, weights), 1e-10)


def everything(n_qubits):
    """Each kind of gate, among them permutations that mix vectors, chunks and signs."""
    last = n_qubits - 1
    return [
        *(Gate("ry", (qubit,), which=qubit % N_ANGLES) for qubit in range(n_qubits)),
        *(Gate("cnot", (qubit, qubit + 1)) for qubit in range(last)),
        Gate("cry", (last, 0), scale=-0.5, shift=0.7),
        Gate("toffoli", (0, last, last // 2)),
        Gate("cz", (1, last)),
        Gate("h", (2,)),
        Gate("swap", (0, last - 1)),
        Gate("any", (last,), shift=0.7, mirrored=True),
    ]


@pytest.mark.parametrize(("n_qubits", "whole"), [(13, None), (16, 2**9)])
def test_large_circuits_against_references(n_qubits, whole, monkeypatch):
    monkeypatch.setattr(compiled_plan, "WHOLE", whole or compiled_plan.WHOLE)
    gates = everything(n_qubits)
    angles, weights = sample(n_qubits)
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    found = by_fused(fused_numba, block, angles, weights)
    assert_same(found, by_tensorcircuit(n_qubits, block_of(gates), angles, weights), 1e-10)
    assert_same(found, by_pennylane(n_qubits, gates, angles, weights), 1e-10)
    single = angles.detach().float().requires_grad_(), weights.float()
    rounded = single[0].detach().double().requires_grad_()
    exact = by_fused(fused_torch, block, rounded, single[1].double())
    assert_same(by_fused(fused_numba, block, *single), exact, 1e-5)


@pytest.mark.parametrize(
    "angles", [torch.ones(1, 60), torch.ones(1, 2), torch.ones(3), torch.ones(1, 3).int()]
)
def test_angles_that_do_not_fit_are_refused(angles):
    block = read_block(ry_linear_cnot, 3, 3)
    with pytest.raises(ValueError, match=r"angles must be floats of shape \(L, 3\), got"):
        probabilities(block, angles)
    with pytest.raises(ValueError, match=r"angles must be floats of shape \(L, 3\), got"):
        expected_z(block, angles, torch.ones(1, 3, 2, dtype=torch.cfloat))


@pytest.mark.parametrize("n_blocks", [0, 2])
def test_no_states_are_no_states(n_blocks):
    block = read_block(ry_linear_cnot, 3, 3)
    angles = torch.ones(n_blocks, 3, requires_grad=True)
    values = expected_z(block, angles, torch.zeros(0, 3, 2, dtype=torch.cfloat))
    assert values.shape == (0, 3)
    values.sum().backward()
    assert (angles.grad == 0).all()


@pytest.fixture
def small_chunks(monkeypatch):
    """The loops' ways through a state that is larger than the cache, for smaller ones."""
    monkeypatch.setattr(compiled_plan, "WHOLE", divided.COLUMN)
    monkeypatch.setattr(compiled_plan, "CHUNK", divided.COLUMN)


def upwards(circuit, angles):
    """CNOTs from each qubit to the one before: chunks are mixed."""
    for qubit in range(circuit._nqubits):
        circuit.ry(qubit, theta=angles[qubit])
    for qubit in reversed(range(circuit._nqubits - 1)):
        circuit.cnot(qubit + 1, qubit)


def reversed_signs(circuit, angles):
    """Chunks stay whole, in cycles of two and one, and some amplitudes change their sign."""
    for qubit in range(circuit._nqubits):
        circuit.ry(qubit, theta=angles[qubit])
    circuit.x(0)
    circuit.cnot(1, 2)
    circuit.cz(0, circuit._nqubits - 1)


@pytest.mark.parametrize("block_function", [ry_linear_cnot, upwards, reversed_signs])
@pytest.mark.parametrize("n_states", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_permutations_in_place_and_not(block_function, n_states, dtype, tolerance, small_chunks):
    n_qubits = 13
    block = read_block(block_function, n_qubits, n_qubits)
    plan, _ = compiled_plan.lay_out(block, torch.zeros(5, n_qubits, dtype=dtype).numpy())
    assert block.n_steps == 1
    assert plan.shape[2] > 0
    assert (plan.n_moves == 0) == (block_function is not upwards)
    angles = torch.rand(5, n_qubits, dtype=torch.float64)
    states, gradients = torch.randn(2, n_states, 2**n_qubits, dtype=torch.float64)
    expected = fused_torch.apply(block, angles, states)
    final = fused_numba.apply(block, angles.to(dtype), states.to(dtype))
    torch.testing.assert_close(final.double(), expected, atol=10 * tolerance, rtol=tolerance)
    found = fused_numba.apply_adjoint(block, angles.to(dtype), final, gradients.to(dtype))
    exact = fused_torch.apply_adjoint(block, angles, expected, gradients)
    for ours, theirs in zip(found, exact, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance * scale, rtol=0)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(circuits(max_qubits=12))
def test_any_real_circuit_in_chunks(circuit):
    n_qubits, gates = circuit
    angles, weights = sample(n_qubits)
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_plan, "WHOLE", divided.COLUMN)
        patch.setattr(compiled_plan, "CHUNK", divided.COLUMN)
        found = by_fused(fused_numba, block, angles, weights)
    assert_same(found, by_tensorcircuit(n_qubits, block_of(gates), angles, weights), 1e-10)


@pytest.mark.parametrize(("n_qubits", "dtype"), [(17, torch.float64), (19, torch.float32)])
def test_engines_agree_at_every_depth_of_the_memory_hierarchy(n_qubits, dtype):
    block = read_block(block_of(everything(n_qubits)), n_qubits, N_ANGLES)
    found = by_fused(fused_numba, block, *sample(n_qubits, dtype, n_blocks=1))
    expected = by_fused(fused_torch, block, *sample(n_qubits, dtype, n_blocks=1))
    assert_same(found, expected, 1e-5 if dtype == torch.float32 else 1e-12)


def test_many_blocks_in_float32_keep_five_digits():
    angles, weights = sample(13, n_blocks=121, n_angles=13)
    single = angles.detach().float().requires_grad_(), weights.float()
    rounded = single[0].detach().double().requires_grad_()
    block = read_block(ry_linear_cnot, 13, 13)
    exact = by_fused(fused_torch, block, rounded, single[1].double())
    assert_same(by_fused(fused_numba, block, *single), exact, 1e-5)


def sample_qubits(n_states, n_qubits, dtype=torch.complex128):
    """Qubits of product states: normalised, and requiring gradients."""
    generator = torch.Generator().manual_seed(n_states)
    qubits = torch.randn(n_states, n_qubits, 2, generator=generator, dtype=torch.complex128)
    return torch.nn.functional.normalize(qubits, dim=2).to(dtype).requires_grad_()


def expectations(module, block, angles, qubits, directions):
    """Values, and the gradients of the angles and of the qubits' real and imaginary parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "loops_for", lambda *_: module)
        values = expected_z(block, angles, qubits)
        loss = (values * directions).sum() + 0 * angles.sum()  # a circuit may use no angle
        of_angles, of_qubits = torch.autograd.grad(loss, [angles, qubits])
    return values.detach(), of_angles, torch.view_as_real(of_qubits)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits(), st.integers(1, 3))
def test_both_engines_agree_on_expectations(circuit, n_states):
    n_qubits, gates = circuit
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    arguments = sample(n_qubits)[0], sample_qubits(n_states, n_qubits), torch.randn(n_qubits)
    found = expectations(fused_numba, block, *arguments)
    assert_same(found, expectations(fused_torch, block, *arguments), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expectations_of_a_large_circuit_whatever_the_engine(dtype):
    block = read_block(block_of(everything(14)), 14, N_ANGLES)
    arguments = sample(14, dtype)[0], sample_qubits(3, 14, dtype.to_complex()), torch.randn(14)
    found = expectations(fused_numba, block, *arguments)
    expected = expectations(fused_torch, block, *arguments)
    assert_same(found, expected, 1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("module", [fused_numba, fused_torch])
@pytest.mark.parametrize("n_qubits", [3, 7])
def test_gradients_of_expectations_match_finite_differences(module, n_qubits, monkeypatch):
    monkeypatch.setattr(fused, "loops_for", lambda *_: module)
    block = read_block(block_of(everything(n_qubits)), n_qubits, N_ANGLES)
    inputs = sample(n_qubits)[0], sample_qubits(2, n_qubits)
    assert torch.autograd.gradcheck(lambda *pair: expected_z(block, *pair), inputs)


@pytest.mark.parametrize("module", [fused_numba, fused_torch])
@pytest.mark.parametrize("n_states", [1, 5, 70])
def test_a_batch_is_its_states_one_by_one(module, n_states):
    block = read_block(block_of(everything(6)), 6, N_ANGLES)
    angles = block.step_angles(sample(6)[0].detach())
    states, gradients = torch.randn(2, n_states, 64, dtype=torch.float64)
    before = states.clone()
    finals = module.apply(block, angles, states)
    angle_gradients, state_gradients = module.apply_adjoint(block, angles, finals, gradients)
    assert torch.equal(states, before)
    single = [module.apply(block, angles, state[None]) for state in states]
    torch.testing.assert_close(finals, torch.cat(single), rtol=0, atol=1e-12)
    parts = [
        module.apply_adjoint(block, angles, *pair)
        for pair in zip(single, gradients.split(1), strict=True)
    ]
    totals = sum(part for part, _ in parts), torch.cat([part for _, part in parts])
    torch.testing.assert_close((angle_gradients, state_gradients), totals, rtol=0, atol=1e-11)


@pytest.mark.parametrize("module", [fused_numba, fused_torch])
def test_no_blocks_change_nothing(module):
    block = read_block(ry_linear_cnot, 4, 4)
    states, gradients = torch.randn(2, 3, 16)
    none = torch.zeros(0, 4)
    assert torch.equal(module.apply(block, none, states), states)
    angle_gradients, back = module.apply_adjoint(block, none, states, gradients)
    assert angle_gradients.shape == (0, 4)
    assert torch.equal(back, gradients)
    starts = torch.tensor([1.0, 0.0]).cfloat().repeat(3, 4, 1).requires_grad_()
    values, *_ = expectations(module, block, none.requires_grad_(), starts, torch.ones(4))
    assert torch.equal(values, torch.ones(3, 4))


@pytest.mark.parametrize("module", [fused_numba, fused_torch])
@pytest.mark.parametrize("where", ["angles", "states"])
def test_nan_comes_out_where_nan_goes_in(module, where):
    block = read_block(ry_linear_cnot, 8, 8)
    angles, states = torch.zeros(2, 8), torch.zeros(1, 256)
    states[0, 0] = 1
    {"angles": angles, "states": states}[where][0, 0] = math.nan
    final = module.apply(block, angles, states)
    assert final.isnan().any()
    angle_gradients, _ = module.apply_adjoint(block, angles, final, torch.ones_like(final))
    assert angle_gradients.isnan().any()


@pytest.mark.parametrize("n_states", [1, 40])
def test_threads_do_not_change_one_bit(n_states, monkeypatch):
    monkeypatch.setattr(fused_numba, "PARALLEL_WORK", 0)
    monkeypatch.setattr(compiled_plan, "WHOLE", compiled_plan.CHUNK)
    monkeypatch.setattr(fused_numba, "SHARED", 0)
    monkeypatch.setattr(fused_numba, "SHARED_WORK", 0)
    n_qubits = 17 if n_states == 1 else 9
    block = read_block(ry_linear_cnot, n_qubits, n_qubits)
    angles = torch.rand(6, n_qubits)
    states, gradients = torch.randn(2, n_states, 2**n_qubits)
    results = []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        monkeypatch.setattr(threads, "_busy_until", [0.0])
        final = fused_numba.apply(block, angles, states)
        results.append((final, *fused_numba.apply_adjoint(block, angles, final, gradients)))
    for found in results[1:]:
        assert all(map(torch.equal, found, results[0]))


def _probabilities_in_a_fork(queue):
    torch.set_num_threads(1)  # torch's own threads do not survive a fork
    block = read_block(ry_linear_cnot, 17, 17)
    queue.put(float(probabilities(block, torch.ones(2, 17)).sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_can_go_on(monkeypatch):
    monkeypatch.setattr(fused_numba, "PARALLEL_WORK", 0)
    monkeypatch.setattr(fused_numba, "SHARED", 0)
    monkeypatch.setattr(fused_numba, "SHARED_WORK", 0)
    monkeypatch.setattr(compiled_plan, "WHOLE", compiled_plan.CHUNK)
    monkeypatch.setattr(threads, "_busy_until", [0.0])
    torch.set_num_threads(2)
    block = read_block(ry_linear_cnot, 17, 17)
    probabilities(block, torch.ones(2, 17))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_probabilities_in_a_fork, args=(queue,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == pytest.approx(1, abs=1e-5)


def _peak_bytes(n_blocks):
    """How far value and gradient at 16 qubits raise this process's memory."""
    block = read_block(ry_linear_cnot, 16, 16)
    angles = torch.rand(n_blocks, 16, requires_grad=True)

    def status(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    probabilities(block, angles).square().sum().backward()
    return status("VmHWM") - before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_blocks():
    _peak_bytes(2)
    few, many = _peak_bytes(4), _peak_bytes(256)
    assert many - few < 2e6  # 256 stored states would be 67e6


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("n_qubits", [3, 9, 14])
@pytest.mark.parametrize("steep", [math.pi, -math.pi, math.pi + 1e-6, 9.0])
def test_half_angles_without_cosines_cost_no_accuracy_and_no_sign(
    n_qubits, steep, dtype, tolerance, small_chunks
):
    """The loops divide by cosines: of angles near pi these are 0, and a product of many is tiny."""
    block = read_block(ry_linear_cnot, n_qubits, n_qubits)
    generator = torch.Generator().manual_seed(0)
    angles = 20 * torch.rand(6, n_qubits, generator=generator, dtype=torch.float64) - 10
    angles[::2] = steep
    angles[4, 1:] = 0.3  # one steep angle among others
    state = torch.randn(2, 2**n_qubits, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 2**n_qubits, generator=generator, dtype=torch.float64)

    def run(module, dtype):
        leaves = [angles.to(dtype), state.to(dtype)]
        final = module.apply(block, *leaves)
        return final.detach(), *module.apply_adjoint(block, *leaves[:1], final, weights.to(dtype))

    for ours, exact in zip(run(fused_numba, dtype), run(fused_torch, torch.float64), strict=True):
        assert (ours - exact).abs().max() <= tolerance * exact.abs().max()


def test_stored_code_depends_on_every_module_that_it_is_made_from(monkeypatch):
    def stamp():
        return compiled(_one)._cache._cache_file._source_stamp

    before = stamp()
    assert stamp() == before
    monkeypatch.setattr(compiling, "_sources", lambda: "another vectors.py")
    assert stamp() != before


def _one():
    return 1


def test_engine_is_numba_on_a_cpu_and_torch_elsewhere(monkeypatch):
    cpu = torch.device("cpu")
    assert fused.loops_for(cpu) is fused_numba
    assert fused.loops_for(cpu, torch.float64) is fused_numba
    assert fused.loops_for(cpu, torch.bfloat16) is fused_torch
    assert fused.loops_for(torch.device("meta")) is fused_torch
    can_compile.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    try:
        assert fused.loops_for(cpu) is fused_torch
    finally:
        can_compile.cache_clear()


def test_without_triton_or_where_it_fails_a_gpu_has_plain_torch(monkeypatch):
    gpu = torch.device("cuda", 7)
    fused._has_triton.cache_clear()
    monkeypatch.setattr(fused, "find_spec", lambda _: None)
    assert fused.loops_for(gpu) is fused_torch

    def no_compiler(_):
        raise RuntimeError("Failed to find C compiler")

    fused._has_triton.cache_clear()
    monkeypatch.setattr(fused, "find_spec", lambda _: "there")
    broken = SimpleNamespace(try_out=no_compiler)
    monkeypatch.setitem(sys.modules, "qtlite.engine.triton_kernels", broken)
    monkeypatch.setattr(engine, "triton_kernels", broken, raising=False)
    with pytest.warns(UserWarning, match="cuda:7, got RuntimeError.*Failed to find C compiler"):
        assert fused.loops_for(gpu) is fused_torch
    assert fused.loops_for(gpu) is fused_torch  # which it has said
    assert fused.loops_for(gpu, torch.bfloat16) is fused_torch
    fused._has_triton.cache_clear()


def test_loops_compile_where_no_folder_can_be_written(monkeypatch):
    njit = numba.njit

    def refuse_to_store(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse_to_store)
    double = compiled(lambda x: 2 * x)
    assert double(21) == 42


@pytest.mark.parametrize("module", [fused_numba, fused_torch])
def test_autocast_does_not_reach_the_circuit(module, monkeypatch):
    monkeypatch.setattr(fused, "loops_for", lambda *_: module)
    block = read_block(ry_linear_cnot, 5, 5)
    generator = torch.Generator().manual_seed(0)
    angles = torch.randn(2, 5, generator=generator, requires_grad=True)
    weights = torch.randn(32, generator=generator)
    qubits = torch.randn(2, 5, 2, generator=generator, dtype=torch.complex64)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            p = probabilities(block, angles)
            z = expected_z(block, angles, qubits)
        (gradient,) = torch.autograd.grad((p * weights).sum() + z.sum(), angles)
        found.append((p, z, gradient))
    for plain, cast in zip(*found, strict=True):
        torch.testing.assert_close(cast, plain, rtol=0, atol=0)


def test_a_worker_that_dies_is_not_waited_for(monkeypatch):
    """Its error is the caller's, where before the caller would have waited for ever."""

    def loops(queue, is_worker):
        claimed, *_ = queue
        if is_worker:
            claimed[0] = 1
            raise MemoryError("none left")
        while not claimed[0] or not claimed[-1]:
            time.sleep(0.001)

    monkeypatch.setattr(threads, "_busy_until", [0.0])
    with pytest.raises(MemoryError, match="none left"):
        threads.run_with_workers(loops, (divided.new_queue(0, (16, 5, 1, 0), 0),), 2)
