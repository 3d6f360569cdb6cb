"""The engine's interface: the same numbers, sooner, or None where the method has to do it itself.

``qtlite/engine`` computes the three boxes of Fig. 1 (circuit, mapping net, normalisation) in fused
and compiled loops. It decides by itself what it can do: its dtypes, devices and sizes, and whether
Numba is installed. Delete the folder ``qtlite/engine`` and only times change (and, for deep
circuits on many qubits, the memory that PyTorch needs for the backward pass).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from torch import Tensor, nn

engine = None
if Path(__file__).with_name("engine").is_dir():  # this copy's own
    from qtlite import engine

_switched_off = ContextVar("_switched_off", default=False)


@contextmanager
def plain() -> Iterator[None]:
    """Switch the engine off: TensorCircuit simulates, PyTorch does the rest.

    Example:
        >>> import torch
        >>> from qtlite import QNN
        >>> qnn = QNN(n_qubits=3, n_blocks=2)
        >>> with plain():
        ...     p = qnn()
        >>> torch.allclose(p, qnn(), atol=1e-6)
        True
    """
    token = _switched_off.set(True)
    try:
        yield
    finally:
        _switched_off.reset(token)


def _on() -> bool:
    # transformations such as torch.func.grad take functions of PyTorch only
    return not (engine is None or _switched_off.get() or engine.in_transformation())


def prepare_circuit(block, n_qubits: int, n_angles: int) -> object:
    """What the engine reads of a block of gates, once; None without an engine."""
    return engine and engine.prepare_circuit(block, n_qubits, n_angles)


def describe(prepared: object) -> str:
    """Say what simulates a prepared circuit, and why."""
    return prepared.description if prepared else "TensorCircuit: there is no engine"


def probabilities(prepared: object, angles: Tensor) -> Tensor | None:
    """The circuit's probabilities, shape (2**N,); in plain: ``circuit.probabilities``."""
    return engine.probabilities(prepared, angles) if prepared and _on() else None


def expectations(prepared: object, angles: Tensor, qubits: Tensor) -> Tensor | None:
    """<Z> of each qubit for product states, shape (B, N)."""
    return engine.expectations(prepared, angles, qubits) if prepared and _on() else None


def mapping(net: nn.Module, column: Tensor) -> Tensor | None:
    """The mapping net's numbers for a column, shape (R,); in plain: ``MappingNet.rows``."""
    return engine.mapping(net.layers, net.bit_values, column) if _on() else None


def prepare_normalisation(shapes: dict, scales: dict, scheme: str) -> object:
    """What the engine lays out for a target, once; None where it does not normalise so."""
    return engine and engine.prepare_normalisation(shapes, scales, scheme)


def normalise(prepared: object, numbers: Tensor) -> dict[str, Tensor] | None:
    """The target's tensors by name; in plain: ``normalise_weights``."""
    return engine.normalise(prepared, numbers) if prepared and _on() else None


def check_memory(n_qubits: int, n_angles: int) -> None:
    """Refuse a circuit whose state, tables and angles this machine cannot hold.

    Raises:
        ValueError: if it needs more than the machine's memory.

    Example:
        >>> check_memory(n_qubits=13, n_angles=208)
    """
    memory = 2**36  # where the system does not say
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # a state, its gradient, their copies, and a permutation each way; angles with Adam's moments
    needed = 24 * 2 ** min(n_qubits, 64) + 16 * n_angles
    if needed > memory:
        raise ValueError(
            f"n_qubits and n_blocks must fit into {memory / 2**30:.0f} GiB of memory, got "
            f"{n_qubits} qubits and {n_angles} angles, which need {needed / 2**30:.0f} GiB"
        )
