"""Entanglement across a cut of the qubits, and what a smaller bond dimension costs.

A state is a vector of 2**N amplitudes. Cut the row of qubits in two, and write the vector as a
matrix: a row for each basis state on the left of the cut, a column for each on the right. Its
singular values are the Schmidt values. Their number is the bond dimension that a matrix product
state needs at this cut.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qtlite.checks import check_count
from qtlite.circuit import build_circuit, tensorcircuit_with
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.studies.sampling import network_from
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.loop import evaluate
from qtlite.export import load_compressed
from qtlite.qnn import QNN

RELATIVE_TOLERANCE = 1e-10  # of Schmidt values that count, in double precision


def amplitudes(qnn: QNN) -> Tensor:
    """Return psi, shape (2**N,), float64, of a circuit whose gates are real.

    Raises:
        ValueError: if an amplitude is not real.

    Example:
        >>> qnn = QNN(3, 2)
        >>> torch.allclose(amplitudes(qnn).square().float(), qnn(), atol=1e-6)
        True
    """
    with tensorcircuit_with("numpy", "complex128"):
        angles = qnn.angles.detach().double().cpu().numpy()
        state = torch.as_tensor(build_circuit(qnn.n_qubits, angles, qnn.block).state())
    if state.imag.abs().max() > 1e-12:
        raise ValueError("qnn must have real amplitudes, got complex ones")
    return state.real.clone()


def schmidt_values(state: Tensor, n_left: int | None = None) -> Tensor:
    """Return the Schmidt values of a state, largest first; their squares sum to 1.

    Args:
        state: amplitudes, shape (2**N,), with norm 1, N >= 2.
        n_left: qubits to the left of the cut, 1 to N - 1; half of them if left out.

    Raises:
        ValueError: if the shape or ``n_left`` is out of range.

    Example:
        >>> bell = torch.tensor([0.5, 0.0, 0.0, 0.5]).double().sqrt()
        >>> [round(value, 4) for value in schmidt_values(bell).tolist()]
        [0.7071, 0.7071]
    """
    n_qubits = _count_qubits(state)
    n_left = n_qubits // 2 if n_left is None else n_left
    if not 1 <= n_left < n_qubits:
        raise ValueError(f"n_left must be between 1 and {n_qubits - 1}, got {n_left}")
    return torch.linalg.svdvals(state.reshape(2**n_left, -1))


def entropy(values: Tensor) -> float:
    """Return the entanglement entropy -sum s**2 ln s**2 of Schmidt values, in nats.

    Example:
        >>> round(entropy(torch.tensor([0.5, 0.5]).sqrt()), 4)  # ln 2
        0.6931
    """
    squares = values.square()
    return -torch.special.xlogy(squares, squares).sum().item()


def schmidt_rank(values: Tensor) -> int:
    """Count the Schmidt values above 1e-10 times the largest."""
    return int((values > RELATIVE_TOLERANCE * values[0]).sum())


def bond_needed(values: Tensor, infidelity: float) -> int:
    """Return how many Schmidt values carry all but a part ``infidelity`` of the squared norm.

    Example:
        >>> bond_needed(torch.tensor([0.9, 0.09, 0.01]).sqrt(), 0.05)
        2
    """
    return int((values.square().cumsum(0) < (1 - infidelity) * values.square().sum()).sum()) + 1


def truncated(state: Tensor, bond: int) -> Tensor:
    """Return the matrix product state of a bond dimension that successive cuts give, as a vector.

    Cut by cut from the left, only the largest Schmidt values are kept. The norm becomes 1 again.

    Args:
        state: amplitudes, shape (2**N,).
        bond: dimension of every bond at most.

    Raises:
        ValueError: if ``bond`` is below 1 or the shape wrong.

    Example:
        >>> bell = torch.tensor([0.6, 0.0, 0.0, 0.4]).double().sqrt()
        >>> truncated(bell, 1).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    check_count("bond", bond)
    rest, tensors = state.reshape(1, -1), []
    for _ in range(_count_qubits(state) - 1):
        left = len(rest)
        u, s, v = torch.linalg.svd(rest.reshape(2 * left, -1), full_matrices=False)
        tensors.append(u[:, :bond].reshape(left, 2, -1))
        rest = s[:bond, None] * v[:bond]
    product = rest
    for tensor in reversed(tensors):
        product = torch.tensordot(tensor, product, 1).flatten(1)
    return product.flatten() / product.norm()


def _count_qubits(state: Tensor) -> int:
    n_qubits = state.numel().bit_length() - 1
    if state.ndim != 1 or n_qubits < 2 or state.numel() != 2**n_qubits:
        raise ValueError(f"state must have shape (2**N,) with N >= 2, got {tuple(state.shape)}")
    return n_qubits


def accuracy_against_bond(
    row: Row,
    bonds: Sequence[int] = (1, 2, 4, 8, 16, 24, 32, 40, 48, 52, 56, 60, 62, 64),
    models: str = "book/models",
) -> dict[str, Any]:
    """Test the networks that a trained state writes when it is truncated to a bond dimension.

    Args:
        row: of the model.
        bonds: dimensions to truncate to.
        models: folder with the trained model ``<dataset>-qt-<L>.angles.safetensors``.

    Returns:
        The model's ``record``, its middle cut's ``entropy`` (nats) and ``rank`` at the start and
        trained, ``exact_accuracy``, and for each bond in ``points`` the ``infidelity`` to the
        trained state and the ``accuracy`` on all test images.
    """
    path = Path(models) / f"{row.dataset}-qt-{row.n_blocks}.angles.safetensors"
    model, about = load_compressed(path, paper_cnn(row.dataset))
    config = row.config()
    images, found = row.images(), {"record": about["record"]}

    def accuracy(probabilities: Tensor) -> float:
        network = network_from(model, probabilities.float())
        return evaluate(network, images.test_images, images.test_labels, config)[1]

    state = amplitudes(model.qnn)
    for name, psi in (("start", amplitudes(build_model(config).qnn)), ("trained", state)):
        values = schmidt_values(psi)
        found[name] = {"entropy": entropy(values), "rank": schmidt_rank(values)}
    points = []
    for bond in bonds:
        near = truncated(state, bond)
        infidelity = max(0.0, 1 - (near @ state).square().item())
        points.append({"bond": bond, "infidelity": infidelity, "accuracy": accuracy(near.square())})
    return {**found, "exact_accuracy": accuracy(state.square()), "points": points}


STUDY = Study("entanglement", accuracy_against_bond)
