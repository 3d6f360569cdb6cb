"""Read a TensorCircuit block and rewrite it as rotation layers and signed permutations.

Every gate with real entries that students' ansätze use is an Ry rotation, a signed permutation of
basis states (X, Z, CNOT, CZ, SWAP, ...), or a short product of the two. Runs of permutations become
one gather, and rotations that nothing separates become one layer, so that a block of the paper is
one layer and one gather whatever the number of its gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import atan2

import numpy as np
import torch
from torch import Tensor

from qtlite.circuit import Block, build_circuit, gate_list, tensorcircuit_with

TOLERANCE = 1e-9  # on matrix entries and angles of O(1), traced in double precision
PROBES = (1.0, 1.0, 3.2, 3.2, 10.0, 10.0, 10.0)  # a block is traced at angles in +-these, radians


class NotRealAmplitude(ValueError):
    """The block has a gate that the fused simulator cannot run; the message names it."""


@dataclass(frozen=True, eq=False)  # one block is one object, which engines may keep tables for
class RealBlock:
    """A block as S steps: state <- permutation_s(rotations_s(state)), s = 0 ... S - 1.

    Qubit 0 is the most significant bit of a basis state's index.
    """

    n_qubits: int  # N
    rotated: np.ndarray  # (S, N) bool: does step s turn qubit q at all
    sources: np.ndarray  # (S, 2**N) int32: after the gather, new[i] = signs[i] * old[sources[i]]
    inverse_sources: np.ndarray  # likewise: old[j] = inverse_signs[j] * new[inverse_sources[j]]
    signs: np.ndarray | None  # (S, 2**N) int8, or None where every sign is +1
    inverse_signs: np.ndarray | None
    coefficients: np.ndarray  # (S, N, K): the angle of step s on qubit q is coefficients @ angles
    offsets: np.ndarray  # (S, N), radians: + offsets

    @property
    def n_steps(self) -> int:
        """S, rotation layers in one block."""
        return len(self.rotated)

    @cached_property
    def _takes_angles_as_they_are(self) -> bool:
        """Whether angle k turns qubit k in the one step, as in the paper's block."""
        copies = self.n_steps == 1 and np.array_equal(self.coefficients[0], np.eye(self.n_qubits))
        return copies and not self.offsets.any()

    def step_angles(self, angles: Tensor) -> Tensor:
        """Turn the block's angles, shape (L, K), into rotation angles, shape (L * S, N).

        Raises:
            ValueError: if the angles are no floats, or of another shape.
        """
        n_angles = self.coefficients.shape[2]
        if angles.ndim != 2 or angles.shape[1] != n_angles or not angles.is_floating_point():
            raise ValueError(
                f"angles must be floats of shape (L, {n_angles}), "
                f"got {angles.dtype} of shape {tuple(angles.shape)}"
            )
        if self._takes_angles_as_they_are:
            return angles
        coefficients, offsets = self._affine_map(angles)
        # no matrix product: autocast would do it in less precision, and it would wake all threads
        return ((coefficients * angles[:, None, None]).sum(-1) + offsets).flatten(0, 1)

    def _affine_map(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients and offsets as tensors, which stay on their device from the first call."""
        key = like.device, like.dtype
        if key not in self._tensors:
            with torch.inference_mode(False):  # cached tensors must not be inference tensors
                self._tensors[key] = tuple(
                    torch.as_tensor(array).to(like) for array in (self.coefficients, self.offsets)
                )
        return self._tensors[key]

    @cached_property
    def _tensors(self) -> dict[tuple, tuple[Tensor, Tensor]]:
        return {}


def read_block(block: Block, n_qubits: int, n_angles: int) -> RealBlock:
    """Trace ``block`` through TensorCircuit's gate list (``to_qir``) and fuse what it finds.

    The angles of its rotations may be any affine function of the block's angles (shared, scaled,
    shifted). Traces at several points, some of them several turns out, test that they are, and that
    nothing else depends on the angles; and TensorCircuit's state after two blocks tests that the
    list tells all, which it does not of post-selection. Tests, not a proof.

    Args:
        block: appends one block to a circuit.
        n_qubits: N.
        n_angles: K, angles of one block.

    Raises:
        NotRealAmplitude: if a gate is complex, or depends on the angles otherwise than by an
            affine angle of Ry or controlled Ry; if the gates depend on the values of the angles; or
            if the block does something that is not in TensorCircuit's list of gates.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> read_block(ry_linear_cnot, n_qubits=3, n_angles=3).sources.tolist()
        [[0, 1, 3, 2, 6, 7, 5, 4]]
    """
    # whatever the caller's mode is: tracing needs autograd, on the CPU
    with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
        return _read(block, n_qubits, n_angles)


def _read(block: Block, n_qubits: int, n_angles: int) -> RealBlock:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(len(PROBES), n_angles, generator=generator, dtype=torch.float64) * 2 - 1
    first, *others = uniform * torch.tensor(PROBES, dtype=torch.float64)[:, None]
    first.requires_grad_()
    gates, *again = (gate_list(block, n_qubits, point) for point in (first, *others))
    names = [[(gate["name"], gate["index"]) for gate in found] for found in (gates, *again)]
    if any(found != names[0] for found in names):
        raise NotRealAmplitude("block must append the same gates whatever its angles are")
    steps = _Steps(n_qubits, n_angles)
    for gate, *checks in zip(gates, *again, strict=True):
        _append(steps, gate, checks, first, others)
    read = steps.finish()
    _check(read, block, torch.stack(others[:2]))
    return read


@torch.no_grad()
def _check(read: RealBlock, block: Block, angles: Tensor) -> None:
    """Compare with TensorCircuit's state, up to a global phase, for angles of shape (2, K)."""
    from qtlite.engine import torch_loops

    start = torch.zeros(1, 2**read.n_qubits, dtype=angles.dtype)
    start[0, 0] = 1
    found = torch_loops.apply(read, read.step_angles(angles), start)[0]
    with tensorcircuit_with("pytorch", "complex128"):
        state = build_circuit(read.n_qubits, angles, block).state()
    largest = found.abs().argmax()
    phase = state[largest] / found[largest]
    if not (state - phase * found).abs().max() < 1e-7 or abs(abs(phase) - 1) > 1e-7:
        raise NotRealAmplitude(
            "block must do what TensorCircuit's list of its gates says, and nothing else, such as "
            "measurements or post-selection, for the engine"
        )


def _append(
    steps: _Steps, gate: dict, checks: list[dict], first: Tensor, others: list[Tensor]
) -> None:
    name, qubits = gate["name"], gate["index"]
    if name == "ry":
        steps.rotate(qubits[0], *_affine(gate, checks, first, others))
    elif name == "cry":
        # CRy(a) = Ry(a/2) CNOT Ry(-a/2) CNOT, all on the target
        control, target = qubits
        coefficients, offset = _affine(gate, checks, first, others)
        steps.permute(_CNOT, (control, target))
        steps.rotate(target, -coefficients / 2, -offset / 2)
        steps.permute(_CNOT, (control, target))
        steps.rotate(target, coefficients / 2, offset / 2)
    else:
        matrix = _constant_real_matrix(gate, checks)
        if np.abs(np.abs(matrix) - np.abs(matrix).round()).max() < TOLERANCE:
            steps.permute(matrix, qubits)
        elif len(qubits) == 1:
            # a real orthogonal 2 x 2 matrix is Ry(a), or Ry(a) after a flip of the sign of |1>
            if np.linalg.det(matrix) < 0:
                steps.permute(np.diag([1.0, -1.0]), qubits)
            angle = 2 * atan2(matrix[1, 0], matrix[0, 0])
            steps.rotate(qubits[0], np.zeros(len(first)), angle)
        else:
            raise NotRealAmplitude(
                f"gate {name!r} on qubits {qubits} must be Ry, controlled Ry, a one-qubit gate or "
                "a signed permutation for the engine"
            )


_CNOT = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=float)


def _affine(
    gate: dict, checks: list[dict], first: Tensor, others: list[Tensor]
) -> tuple[np.ndarray, float]:
    """Coefficients c, shape (K,), and offset o with angle = c @ angles + o."""
    angle, *again = (g.get("parameters", {}).get("theta", 0.0) for g in (gate, *checks))
    coefficients = torch.zeros_like(first)
    if isinstance(angle, Tensor) and angle.requires_grad:
        (found,) = torch.autograd.grad(angle, first, retain_graph=True, allow_unused=True)
        coefficients = coefficients if found is None else found
    angle, *again = (float(torch.as_tensor(a).detach()) for a in (angle, *again))
    offset = angle - float(coefficients @ first.detach())
    differences = [
        float(coefficients @ point) + offset - found
        for point, found in zip(others, again, strict=True)
    ]
    if max(map(abs, differences)) > TOLERANCE:
        raise NotRealAmplitude(
            f"gate {gate['name']!r} on qubits {gate['index']} must have an angle that is affine "
            "in the block's angles for the engine"
        )
    return coefficients.numpy(), offset


def _constant_real_matrix(gate: dict, checks: list[dict]) -> np.ndarray:
    """The gate's matrix up to a global phase, shape (2**k, 2**k)."""
    where = f"gate {gate['name']!r} on qubits {gate['index']}"
    if not hasattr(gate["gate"], "tensor"):  # a gate that TensorCircuit keeps as a tensor network
        raise NotRealAmplitude(f"{where} must have a matrix for the engine")
    size = 2 ** len(gate["index"])
    matrix, *again = (
        g["gate"].tensor.detach().resolve_conj().numpy().reshape(size, size)
        for g in (gate, *checks)
    )
    largest = matrix.flat[np.abs(matrix).argmax()]
    phase = largest / abs(largest)
    if np.abs((matrix / phase).imag).max() > TOLERANCE:
        raise NotRealAmplitude(f"{where} must have real entries for the engine")
    if max(np.abs(matrix - other).max() for other in again) > TOLERANCE:
        raise NotRealAmplitude(f"{where} must not depend on the angles for the engine")
    matrix = matrix / phase
    if np.abs(matrix.real @ matrix.real.T - np.eye(size)).max() > TOLERANCE:
        raise NotRealAmplitude(f"{where} must be unitary for the engine")
    return matrix.real


class _Steps:
    """Collects gates greedily: a rotation joins the open step if its qubit is not yet permuted."""

    def __init__(self, n_qubits: int, n_angles: int):
        self.n_qubits, self.n_angles = n_qubits, n_angles
        self.closed: list[tuple] = []
        self._open()

    def _open(self) -> None:
        self.rotated = np.zeros(self.n_qubits, bool)
        self.coefficients = np.zeros((self.n_qubits, self.n_angles))
        self.offsets = np.zeros(self.n_qubits)
        self.source = np.arange(2**self.n_qubits, dtype=np.int32)
        self.sign = np.ones(2**self.n_qubits, np.int8)
        self.permuted: set[int] = set()

    def _close(self) -> None:
        self.closed.append((self.rotated, self.source, self.sign, self.coefficients, self.offsets))

    def rotate(self, qubit: int, coefficients: np.ndarray, offset: float) -> None:
        if qubit in self.permuted:
            self._close()
            self._open()
        self.rotated[qubit] = True
        self.coefficients[qubit] += coefficients
        self.offsets[qubit] += offset

    def permute(self, matrix: np.ndarray, qubits: tuple[int, ...]) -> None:
        """Follow the open step with new[i] = matrix[a, b] * old[i with its bits a set to b]."""
        index = np.arange(2**self.n_qubits, dtype=np.int32)
        shifts = [self.n_qubits - 1 - qubit for qubit in qubits]
        row = np.zeros_like(index)
        for shift in shifts:
            row = 2 * row + (index >> shift & 1)
        column = np.abs(matrix).argmax(axis=1).astype(np.int32)[row]
        origin = index
        for place, shift in enumerate(reversed(shifts)):
            bit = np.int32(1 << shift)
            origin = (origin & ~bit) | ((column >> place & 1) << shift)
        sign = np.sign(matrix[row, column]).astype(np.int8)
        self.source, self.sign = self.source[origin], sign * self.sign[origin]
        self.permuted.update(qubits)

    def finish(self) -> RealBlock:
        self._close()
        rotated, sources, signs, coefficients, offsets = map(
            np.stack, zip(*self.closed, strict=True)
        )
        inverse_sources = np.argsort(sources, axis=1).astype(np.int32)
        signed = bool((signs < 0).any())
        return RealBlock(
            self.n_qubits,
            rotated,
            sources,
            inverse_sources,
            signs if signed else None,
            np.take_along_axis(signs, inverse_sources, axis=1) if signed else None,
            coefficients,
            offsets,
        )
