"""The engine's interface: the same numbers, sooner, or None where the method has to compute itself.

Delete the folder ``qtlite/engine`` and only times change (and, for deep circuits on many qubits,
the memory of the backward pass). What it can do, for which dtypes and devices, it decides itself.
"""

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
    """Switch the engine off: TensorCircuit simulates, PyTorch does the rest."""
    token = _switched_off.set(True)
    try:
        yield
    finally:
        _switched_off.reset(token)


def _on() -> bool:
    # torch.func.grad and the like take functions of PyTorch only
    return not (engine is None or _switched_off.get() or engine.in_transformation())


def prepare_circuit(block, n_qubits: int, n_angles: int) -> object:
    """Read a block of gates, once; refuse what does not fit into the machine's memory."""
    memory = 64.0  # GiB, where the system does not say
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    # a state, its gradient, copies of both, and a permutation each way
    if (needed := 24 * 2**n_qubits / 2**30) > memory:
        raise ValueError(f"n_qubits must fit {memory:.0f} GiB, got {n_qubits} ({needed:.0f} GiB)")
    return engine and engine.prepare_circuit(block, n_qubits, n_angles)


def probabilities(prepared: object, angles: Tensor) -> Tensor | None:
    """Return p, shape (2**N,); in plain: ``circuit.probabilities``."""
    return engine.probabilities(prepared, angles) if prepared and _on() else None


def expectations(prepared: object, angles: Tensor, qubits: Tensor) -> Tensor | None:
    """Return <Z> of each qubit for product states, shape (B, N)."""
    return engine.expectations(prepared, angles, qubits) if prepared and _on() else None


def mapping(net: nn.Module, column: Tensor) -> Tensor | None:
    """Return the numbers for a column, shape (R,); in plain: the layers of ``mapping_inputs``."""
    return engine.map_column(net.layers, net.bit_values, column) if _on() else None


def prepare_normalisation(shapes: dict, scales: dict, scheme: str) -> object:
    """Lay out a target's tensors, once."""
    return engine and engine.prepare_normalisation(shapes, scales, scheme)


def normalise(prepared: object, numbers: Tensor) -> dict[str, Tensor] | None:
    """Return the target's tensors by name; in plain: ``normalise_weights``."""
    return engine.normalise(prepared, numbers) if prepared and _on() else None
