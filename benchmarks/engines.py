"""The simulators that are compared, each as a function that returns value and gradient.

``engine(n_qubits, n_blocks)`` prepares the paper's circuit and returns a function of no arguments
that gives the value of sum(weights * probabilities) and its gradient with respect to the angles,
shape (L, N). Everything runs in single precision where that can be chosen. An engine whose library
is not installed raises ImportError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qtlite.circuit import probabilities, ry_linear_cnot
from qtlite.engine import circuit as fused
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.compiled import circuit as fused_numba
from qtlite.experiments.data.torchvision import import_torchvision

Call = Callable[[], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Engine:
    """One line of the tables."""

    name: str
    prepare: Callable[[int, int], Call]
    threads: tuple[int, ...]  # torch's; with several, the faster counts
    largest: int  # amplitudes x blocks that it is measured with at most, for time or memory


def sample(n_qubits: int, n_blocks: int) -> tuple[Tensor, Tensor]:
    """Angles, shape (L, N), radians, and the weights of the probabilities, shape (2**N,)."""
    generator = torch.Generator().manual_seed(n_qubits)
    angles = (torch.rand(n_blocks, n_qubits, generator=generator) * 2 - 1) * torch.pi
    return angles, torch.randn(2**n_qubits, generator=generator)


def _differentiated(probabilities: Callable[[Tensor], Tensor], angles: Tensor, weights: Tensor):
    angles = angles.clone().requires_grad_()

    def call() -> tuple[float, np.ndarray]:
        value = (probabilities(angles) * weights).sum()
        (gradient,) = torch.autograd.grad(value, angles)
        return value.item(), gradient.cpu().numpy()

    return call


def qtlite(module, device: str = "cpu") -> Callable[[int, int], Call]:
    """Ours, with the loops of one module."""

    def prepare(n_qubits: int, n_blocks: int) -> Call:
        prepared = fused.prepare_circuit(ry_linear_cnot, n_qubits, n_qubits)
        angles, weights = (tensor.to(device) for tensor in sample(n_qubits, n_blocks))
        call = _differentiated(lambda a: fused.probabilities(prepared, a), angles, weights)

        def timed() -> tuple[float, np.ndarray]:
            chosen, fused.loops_for = fused.loops_for, lambda *_: module
            try:
                return call()
            finally:
                fused.loops_for = chosen

        return timed

    return prepare


def plain_torch(n_qubits: int, n_blocks: int) -> Call:
    """Real amplitudes, gate by gate, differentiated by PyTorch: what one writes first."""
    basis = torch.arange(2**n_qubits)
    source = basis ^ basis >> 1

    def probabilities(angles: Tensor) -> Tensor:
        state = torch.zeros(2**n_qubits)
        state[0] = 1
        for row in angles:
            cos, sin = (row / 2).cos(), (row / 2).sin()
            for qubit in range(n_qubits):
                zero, one = state.reshape(2**qubit, 2, -1).unbind(1)
                pair = (
                    cos[qubit] * zero - sin[qubit] * one,
                    sin[qubit] * zero + cos[qubit] * one,
                )
                state = torch.stack(pair, dim=1)
            state = state.reshape(-1)[source]
        return state.square()

    return _differentiated(probabilities, *sample(n_qubits, n_blocks))


def tensorcircuit_torch(n_qubits: int, n_blocks: int) -> Call:
    """TensorCircuit, PyTorch backend, gate by gate."""
    return _differentiated(
        lambda angles: probabilities(n_qubits, angles, ry_linear_cnot),
        *sample(n_qubits, n_blocks),
    )


def tensorcircuit_jax(n_qubits: int, n_blocks: int) -> Call:
    """TensorCircuit, JAX backend: one compiled block, scanned over the rows of angles.

    XLA's own threads run it, one for each core.
    """
    import jax
    import tensorcircuit as tc

    angles, weights = (jax.numpy.asarray(t.numpy()) for t in sample(n_qubits, n_blocks))
    start = jax.numpy.zeros(2**n_qubits, dtype="complex64").at[0].set(1)

    def one_block(state, row):
        circuit = tc.Circuit(n_qubits, inputs=state)
        ry_linear_cnot(circuit, row)
        return circuit.state(), None

    @jax.jit
    @jax.value_and_grad
    def value_and_gradient(angles):
        state, _ = jax.lax.scan(one_block, start, angles)
        return (jax.numpy.abs(state) ** 2 * weights).sum()

    def call() -> tuple[float, np.ndarray]:
        with tc.runtime_backend("jax"), tc.runtime_dtype("complex64"):
            value, gradient = value_and_gradient(angles)
            return float(value), np.asarray(gradient)

    return call


def _pennylane_block(angles, n_qubits: int) -> None:
    import pennylane as qml

    for row in angles:
        for qubit in range(n_qubits):
            qml.RY(row[qubit], wires=qubit)
        for qubit in range(n_qubits - 1):
            qml.CNOT(wires=[qubit, qubit + 1])


def pennylane_backprop(n_qubits: int, n_blocks: int) -> Call:
    """PennyLane, default.qubit, differentiated by PyTorch; its states are complex128."""
    import pennylane as qml

    device = qml.device("default.qubit", wires=n_qubits)

    @qml.qnode(device, interface="torch", diff_method="backprop")
    def probabilities(angles):
        _pennylane_block(angles, n_qubits)
        return qml.probs(wires=range(n_qubits))

    return _differentiated(probabilities, *sample(n_qubits, n_blocks))


def pennylane_lightning(n_qubits: int, n_blocks: int) -> Call:
    """PennyLane, lightning.qubit (C++), adjoint; the value as a diagonal observable's mean.

    One observable takes one thread, whatever is allowed.
    """
    import pennylane as qml
    from scipy.sparse import diags

    angles, weights = sample(n_qubits, n_blocks)
    device = qml.device("lightning.qubit", wires=n_qubits, c_dtype=np.complex64)
    observable = qml.SparseHamiltonian(
        diags(weights.numpy().astype(complex)).tocsr(), wires=range(n_qubits)
    )

    @qml.qnode(device, interface="torch", diff_method="adjoint")
    def mean(angles):
        _pennylane_block(angles, n_qubits)
        return qml.expval(observable)

    angles = angles.clone().requires_grad_()

    def call() -> tuple[float, np.ndarray]:
        value = mean(angles)
        (gradient,) = torch.autograd.grad(value, angles)
        return value.item(), gradient.numpy()

    return call


def torchquantum(n_qubits: int, n_blocks: int) -> Call:
    """TorchQuantum, gate by gate; ``torchquantum.txt`` says how it installs."""
    import_torchvision()  # which it imports, and which needs this beside a CPU build of torch
    import torchquantum as tq

    def probabilities(angles: Tensor) -> Tensor:
        device = tq.QuantumDevice(n_wires=n_qubits)
        for row in angles:
            for qubit in range(n_qubits):
                device.ry(wires=qubit, params=row[qubit])
            for qubit in range(n_qubits - 1):
                device.cnot(wires=[qubit, qubit + 1])
        return device.get_states_1d().abs().square()[0]

    return _differentiated(probabilities, *sample(n_qubits, n_blocks))


ENGINES = (
    Engine("qtlite, Numba", qtlite(fused_numba), (1,), 2**30),
    Engine("qtlite, Numba", qtlite(fused_numba), (2,), 2**30),
    Engine("qtlite, plain torch", qtlite(fused_torch), (1, 2), 2**24),
    Engine("torch autodiff, real, gate by gate", plain_torch, (1, 2), 2**22),
    Engine("PennyLane lightning.qubit, adjoint", pennylane_lightning, (1,), 2**22),
    Engine(
        "PennyLane default.qubit, backprop, double precision", pennylane_backprop, (1, 2), 2**21
    ),
    Engine("TensorCircuit, JAX, jit + scan", tensorcircuit_jax, (2,), 2**22),
    Engine("TensorCircuit, PyTorch", tensorcircuit_torch, (1, 2), 2**21),
    Engine("TorchQuantum", torchquantum, (1, 2), 2**21),
)
