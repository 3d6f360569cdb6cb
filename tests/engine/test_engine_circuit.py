"""The fused simulator against TensorCircuit: values and gradients."""

import math
import multiprocessing
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import tensorcircuit as tc
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from qtlite import engine
from qtlite.circuit import build_circuit, ry_linear_cnot
from qtlite.engine import circuit as fused
from qtlite.engine import threads
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.compiled import circuit as fused_numba
from qtlite.engine.compiled import divided
from qtlite.engine.compiled import plan as compiled_plan
from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.read_block import read_block

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"ry": 1, "h": 1, "any": 1, "x": 1, "y": 1, "z": 1}
SIZES |= {"cry": 2, "cnot": 2, "cz": 2, "swap": 2, "toffoli": 3}
N_ANGLES, N_BLOCKS = 4, 2
BOTH = pytest.mark.parametrize("module", [fused_numba, fused_torch])


def probabilities(block, angles):
    return fused.probabilities(fused.Prepared(block, ""), angles)


def expected_z(block, angles, qubits):
    return fused.expectations(fused.Prepared(block, ""), angles, qubits)


class Gate(NamedTuple):
    """A rotation by scale * angles[which] + shift, or a fixed gate; ``any`` is a mirrored Ry."""

    name: str
    qubits: tuple[int, ...]
    which: int = 0
    scale: float = 1.0
    shift: float = 0.0


def block_of(gates):
    """The gates as a TensorCircuit block."""

    def block(circuit, angles):
        for name, qubits, which, scale, shift in gates:
            options = {}
            if name in ("ry", "cry"):
                options = {"theta": scale * angles[which] + shift}
            elif name == "any":
                cos, sin = math.cos(shift / 2), math.sin(shift / 2)
                mirror = math.copysign(1, scale)
                options = {"unitary": np.array([[cos, -mirror * sin], [sin, mirror * cos]])}
            getattr(circuit, name)(*qubits, **options)

    return block


@st.composite
def circuits(draw):
    """N and a block of real gates in any order."""
    n_qubits = draw(st.integers(1, 12))
    names = [name for name, size in SIZES.items() if size <= n_qubits]
    scales, shifts = st.sampled_from([1.0, -0.5, 2.0]), st.sampled_from([0.0, 0.7, -2.9])
    gates = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=12)):
        qubits = tuple(draw(st.permutations(range(n_qubits)))[: SIZES[name]])
        gates.append(Gate(name, qubits, draw(st.integers(0, 3)), draw(scales), draw(shifts)))
    return n_qubits, gates


def sample(n_qubits, n_blocks=N_BLOCKS, n_angles=N_ANGLES):
    """Angles that require gradients, and what the loss multiplies the probabilities by."""
    generator = torch.Generator().manual_seed(n_qubits)
    angles = (torch.rand(n_blocks, n_angles, generator=generator) - 0.5) * 9
    weights = torch.randn(2**n_qubits, generator=generator)
    return angles.double().requires_grad_(), weights.double()


def with_gradient(probabilities, angles, weights):
    loss = (probabilities * weights).sum() + 0 * angles.sum()  # a circuit may use no angle
    return probabilities.detach(), torch.autograd.grad(loss, angles)[0]


def by_fused(module, block, angles, weights, dtype=torch.float64):
    angles = angles.detach().to(dtype).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "loops_for", lambda *_: module)
        return with_gradient(probabilities(block, angles), angles, weights.to(dtype))


def by_tensorcircuit(n_qubits, gates, angles, weights):
    with tc.runtime_backend("pytorch"), tc.runtime_dtype("complex128"):
        circuit = build_circuit(n_qubits, angles, block_of(gates))
        return with_gradient(circuit.probability(), angles, weights)


def assert_same(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=tolerance * scale)


def assert_engines_agree(block, angles, weights):
    """In double precision, and in single with angles and weights that both can hold."""
    exact = by_fused(fused_torch, block, angles, weights)
    assert_same(by_fused(fused_numba, block, angles, weights), exact, 1e-12)
    assert_same(by_fused(fused_numba, block, angles, weights, torch.float32), exact, 1e-5)
    return exact


@contextmanager
def small_chunks():
    """The loops' ways through a state that is larger than the cache, for smaller ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_plan, "WHOLE", divided.COLUMN)
        patch.setattr(compiled_plan, "CHUNK", divided.COLUMN)
        yield


@settings(max_examples=40, deadline=None, derandomize=True)
@given(circuits())
def test_any_real_circuit(circuit):
    n_qubits, gates = circuit
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    angles, weights = sample(n_qubits)
    exact = assert_engines_agree(block, angles, weights)
    assert_same(exact, by_tensorcircuit(n_qubits, gates, angles, weights), 1e-10)
    assert_same(by_fused(fused_torch, block, angles, weights, torch.float32), exact, 1e-5)
    with small_chunks():
        assert_same(by_fused(fused_numba, block, angles, weights), exact, 1e-12)


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
        Gate("any", (last,), scale=-1.0, shift=0.7),
    ]


@pytest.mark.parametrize(("n_qubits", "whole"), [(13, None), (16, 2**9), (19, None)])
def test_large_circuits_at_every_depth_of_the_memory_hierarchy(n_qubits, whole, monkeypatch):
    monkeypatch.setattr(compiled_plan, "WHOLE", whole or compiled_plan.WHOLE)
    gates = everything(n_qubits)
    block = read_block(block_of(gates), n_qubits, N_ANGLES)
    angles, weights = sample(n_qubits, n_blocks=1 if n_qubits > 16 else N_BLOCKS)
    exact = assert_engines_agree(block, angles, weights)
    if n_qubits == 13:
        assert_same(exact, by_tensorcircuit(n_qubits, gates, angles, weights), 1e-10)


def test_many_blocks_in_float32_keep_five_digits():
    angles, weights = sample(13, n_blocks=121, n_angles=13)
    block = read_block(ry_linear_cnot, 13, 13)
    assert block.n_steps == 1  # rotations share a pass, and the chain is one permutation
    assert_engines_agree(block, angles, weights)


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
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("n_qubits", "n_states"), [(3, 70), (9, 5), (13, 1), (14, 3)])
def test_steep_angles_and_permutations_in_place_and_not(
    block_function, n_qubits, n_states, dtype, tolerance
):
    """The loops divide by cosines: of angles near pi these are 0, and a product of many is tiny."""
    block = read_block(block_function, n_qubits, n_qubits)
    generator = torch.Generator().manual_seed(0)
    size = (2, n_states, 2**n_qubits)
    states, gradients = torch.randn(size, generator=generator, dtype=torch.float64)

    def run(module, dtype):
        turns, before = angles.to(dtype), states.to(dtype, copy=True)
        final = module.apply(block, turns, before)
        assert torch.equal(before, states.to(dtype))
        return final, *module.apply_adjoint(block, turns, final, gradients.to(dtype))

    for steep in (1.0, math.pi, -math.pi, math.pi + 1e-6, 9.0):
        angles = 20 * torch.rand(6, n_qubits, generator=generator, dtype=torch.float64) - 10
        angles[::2] = steep
        angles[4, 1:] = 0.3  # one steep angle among others
        with small_chunks():
            found = run(fused_numba, dtype)
        for ours, exact in zip(found, run(fused_torch, torch.float64), strict=True):
            assert (ours - exact).abs().max() <= tolerance * exact.abs().max()


def test_angles_that_do_not_fit_are_refused():
    block, qubits = read_block(ry_linear_cnot, 3, 3), torch.ones(1, 3, 2, dtype=torch.cfloat)
    text = r"angles must be floats of shape \(L, 3\), got"
    for angles in (torch.ones(1, 60), torch.ones(1, 2), torch.ones(3), torch.ones(1, 3).int()):
        refused(text, probabilities, block, angles)
        refused(text, expected_z, block, angles, qubits)


@BOTH
def test_no_blocks_change_nothing_and_no_states_are_no_states(module, monkeypatch):
    monkeypatch.setattr(fused, "loops_for", lambda *_: module)
    block = read_block(ry_linear_cnot, 4, 4)
    states, gradients = torch.randn(2, 3, 16)
    none = torch.zeros(0, 4)
    assert torch.equal(module.apply(block, none, states), states)
    angle_gradients, back = module.apply_adjoint(block, none, states, gradients)
    assert angle_gradients.shape == (0, 4)
    assert torch.equal(back, gradients)
    starts = torch.tensor([1.0, 0.0]).cfloat().repeat(3, 4, 1)
    assert torch.equal(expected_z(block, none, starts), torch.ones(3, 4))
    for angles in (none.requires_grad_(), torch.ones(2, 4, requires_grad=True)):
        values = expected_z(block, angles, starts[:0])
        assert values.shape == (0, 4)
        values.sum().backward()
        assert (angles.grad == 0).all()


@BOTH
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


@pytest.fixture
def always_shared(monkeypatch):
    """Threads share any work, in chunks."""
    for name in ("PARALLEL_WORK", "SHARED", "SHARED_WORK"):
        monkeypatch.setattr(fused_numba, name, 0)
    monkeypatch.setattr(compiled_plan, "WHOLE", compiled_plan.CHUNK)
    monkeypatch.setattr(threads, "_busy_until", [0.0])


@pytest.mark.parametrize(("n_qubits", "n_states"), [(17, 1), (9, 40)])
def test_threads_do_not_change_one_bit(n_qubits, n_states, always_shared, monkeypatch):
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
def test_a_forked_process_can_go_on(always_shared):
    torch.set_num_threads(2)
    probabilities(read_block(ry_linear_cnot, 17, 17), torch.ones(2, 17))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_probabilities_in_a_fork, args=(queue,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == pytest.approx(1, abs=1e-5)


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
    queue = divided.new_queue(0, (16, 5, 1, 0), 0)
    refused("none left", threads.run_with_workers, loops, (queue,), 2, error=MemoryError)


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


def test_engine_is_numba_on_a_cpu_and_torch_elsewhere(monkeypatch):
    cpu = torch.device("cpu")
    assert fused.loops_for(cpu) is fused.loops_for(cpu, torch.float64) is fused_numba
    assert fused.loops_for(cpu, torch.bfloat16) is fused_torch
    assert fused.loops_for(torch.device("meta")) is fused_torch
    can_compile.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    try:
        assert fused.loops_for(cpu) is fused_torch
    finally:
        can_compile.cache_clear()


def test_without_triton_or_where_it_fails_a_gpu_has_plain_torch(monkeypatch):
    def no_compiler(_):
        raise RuntimeError("Failed to find C compiler")

    gpu, broken = torch.device("cuda", 7), SimpleNamespace(try_out=no_compiler)
    fused._has_triton.cache_clear()
    monkeypatch.setattr(fused, "find_spec", lambda _: None)
    assert fused.loops_for(gpu) is fused_torch
    fused._has_triton.cache_clear()
    monkeypatch.setattr(fused, "find_spec", lambda _: "there")
    monkeypatch.setitem(sys.modules, "qtlite.engine.triton_kernels", broken)
    monkeypatch.setattr(engine, "triton_kernels", broken, raising=False)
    with pytest.warns(UserWarning, match="cuda:7, got RuntimeError.*Failed to find C compiler"):
        assert fused.loops_for(gpu) is fused_torch
    assert fused.loops_for(gpu) is fused_torch  # which it has said
    assert fused.loops_for(gpu, torch.bfloat16) is fused_torch
    fused._has_triton.cache_clear()


@BOTH
def test_autocast_does_not_reach_the_circuit(module, monkeypatch):
    monkeypatch.setattr(fused, "loops_for", lambda *_: module)
    block = read_block(ry_linear_cnot, 5, 5)
    generator = torch.Generator().manual_seed(0)
    angles = torch.randn(2, 5, generator=generator, requires_grad=True)
    qubits = torch.randn(2, 5, 2, generator=generator, dtype=torch.complex64)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            p, z = probabilities(block, angles), expected_z(block, angles, qubits)
        (gradient,) = torch.autograd.grad((p * torch.arange(32)).sum() + z.sum(), angles)
        found.append((p, z, gradient))
    torch.testing.assert_close(*found, rtol=0, atol=0)
