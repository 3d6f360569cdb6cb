"""Finite shots: probabilities estimated by counting, gradients from shifted circuits.

A quantum computer returns one basis state for each run of the circuit (a shot). Quantum-Train's
probabilities are then frequencies p^ = counts / S, with a standard error of sqrt(p (1 - p) / S).
"""

from numbers import Integral

import torch
from torch import Tensor, nn

from qtlite.circuit import tensorcircuit_with
from qtlite.export.circuits import network_from as network_from
from qtlite.qnn import QNN

GRADIENTS = ("parameter_shift", "straight_through")
SAMPLED_AT_ONCE = 2**20  # shots; the sampler holds several arrays of this length
MAX_SHOTS = 2**32  # some minutes


def sample_frequencies(
    probabilities: Tensor, n_shots: int, generator: torch.Generator | None = None
) -> Tensor:
    """Estimate p from n_shots measurements, with TensorCircuit's sampler.

    The gates do not run again: the sampler draws from the state with amplitudes sqrt(p), and a
    measurement depends on their squares only.

    Args:
        probabilities: p, shape (2**N,) or (B, 2**N) for B circuits, each summing to 1.
        n_shots: S, of each circuit, 1 to 2**32.
        generator: source of randomness, on the CPU; PyTorch's global one if left out.

    Returns:
        p^ = counts / S, shape, dtype and device of ``probabilities``; no gradient.

    Raises:
        ValueError: if ``probabilities`` are not probabilities or ``n_shots`` is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_frequencies(torch.tensor([0.5, 0.0, 0.0, 0.5]), 8, generator)
        tensor([0.6250, 0.0000, 0.0000, 0.3750])
    """
    _check_shots(n_shots)
    shape = tuple(probabilities.shape)
    if len(shape) not in (1, 2) or shape[0] == 0 or shape[-1].bit_count() != 1:
        raise ValueError(f"probabilities must have shape (2**N,) or (B, 2**N), got {shape}")
    rows = probabilities.detach().double().cpu().reshape(-1, shape[-1])
    for row in rows:
        low, total = row.min().item(), row.sum().item()
        if not (low >= 0 and abs(total - 1) < 1e-3):
            raise ValueError(f"probabilities must be >= 0 and sum to 1, got {low:g} and {total:g}")
    n_qubits = shape[-1].bit_length() - 1
    frequencies = torch.zeros_like(rows)
    # double precision: 2**24 shots would show the rounding of a cumulative sum in single
    with tensorcircuit_with("numpy", "complex128") as tc:
        for row, counts in zip(rows, frequencies, strict=True):
            circuit = tc.Circuit(n_qubits, inputs=(row / row.sum()).sqrt().numpy())
            for done in range(0, n_shots, SAMPLED_AT_ONCE):
                n_now = min(SAMPLED_AT_ONCE, n_shots - done)
                uniform = torch.rand(n_now, dtype=torch.float64, generator=generator)
                status = uniform.sort().values.numpy()  # same counts; searches stay in the cache
                options = {"allow_state": True, "format": "count_vector", "status": status}
                counts += torch.as_tensor(circuit.sample(batch=n_now, **options))
    return (frequencies / n_shots).reshape(probabilities.shape).to(probabilities)


def _check_shots(n_shots: int) -> None:
    if not (isinstance(n_shots, Integral) and 1 <= n_shots <= MAX_SHOTS):
        raise ValueError(f"n_shots must be an integer from 1 to {MAX_SHOTS}, got {n_shots}")


def run_circuits(
    qnn: QNN, angles: Tensor, n_shots: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Return p, or p^ from S shots, of a circuit at several settings of its angles; no gradient.

    Args:
        qnn: the circuit; its own angles are not used.
        angles: B settings, shape (B, L, K), radians.
        n_shots: S of each setting; exact probabilities if left out.
        generator: source of the shots.

    Returns:
        Shape (B, 2**N).
    """
    if n_shots is not None:
        _check_shots(n_shots)
    with torch.no_grad():
        exact = [torch.func.functional_call(qnn, {"angles": setting}, ()) for setting in angles]
    p = torch.stack(exact)
    return p if n_shots is None else sample_frequencies(p, n_shots, generator)


def parameter_shift(
    qnn: QNN, gradient: Tensor, n_shots: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Return d loss / d angles for a given d loss / d p, from two circuits for each angle.

    For an angle mu of one Ry gate, dp / dmu = (p(mu + pi/2) - p(mu - pi/2)) / 2 exactly (Mitarai
    et al. 2018; Schuld et al. 2019); the chain rule does the rest. With shots, the result is
    unbiased for the given ``gradient``. A gradient taken at a p^ has a bias of its own.

    Args:
        qnn: a circuit in which every angle belongs to one Ry gate, as in ``ry_linear_cnot``.
        gradient: d loss / d p, shape (2**N,).
        n_shots: S of each of the 2 L K circuits; exact if left out.
        generator: source of the shots.

    Returns:
        Shape (L, K).

    Raises:
        ValueError: if ``gradient`` has another shape.

    Example:
        >>> qnn = QNN(1, 1)  # p_0 = cos(mu / 2)**2, its derivative is -sin(mu) / 2
        >>> shifted = parameter_shift(qnn, torch.tensor([1.0, 0.0]))
        >>> torch.allclose(shifted, -qnn.angles.sin() / 2, atol=1e-6)
        True
    """
    if gradient.shape != (2**qnn.n_qubits,):
        raise ValueError(
            f"gradient must have shape ({2**qnn.n_qubits},), got {tuple(gradient.shape)}"
        )
    angles = qnn.angles.detach()
    shifts = torch.pi / 2 * torch.eye(angles.numel()).to(angles).reshape(-1, *angles.shape)
    settings = torch.cat([angles + shifts, angles - shifts])
    p_plus, p_minus = run_circuits(qnn, settings, n_shots, generator).chunk(2)
    return ((p_plus - p_minus) / 2 @ gradient).reshape(angles.shape)


class SampledQNN(nn.Module):
    """A ``QNN`` that is measured: every forward pass draws new shots.

    It replaces a model's circuit: ``model.qnn = SampledQNN(model.qnn, 4096)``.

    Args:
        qnn: the circuit; it keeps its angles.
        n_shots: S, of every circuit that is run.
        gradient: "parameter_shift" is what a quantum computer can do: 2 L K more circuits with S
            shots each at every backward pass. "straight_through" is a substitute that only a
            simulator has: p^ forward, the exact dp / dangles backward.
        generator: source of the shots.

    Raises:
        ValueError: if ``gradient`` is unknown or ``n_shots`` is out of range.

    Example:
        >>> qnn = SampledQNN(QNN(3, 2), n_shots=100)
        >>> round((qnn() * 100).sum().item(), 3)
        100.0
    """

    def __init__(
        self,
        qnn: QNN,
        n_shots: int,
        gradient: str = "parameter_shift",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {GRADIENTS}, got {gradient!r}")
        _check_shots(n_shots)
        self.qnn, self.n_shots = qnn, n_shots
        self.gradient, self.generator = gradient, generator

    def forward(self) -> Tensor:
        """Return p^, shape (2**N,), summing to 1."""
        if self.gradient == "parameter_shift":
            return _ByShifts.apply(self.qnn.angles, self)
        exact = self.qnn()
        noise = sample_frequencies(exact, self.n_shots, self.generator) - exact.detach()
        return exact + noise

    def extra_repr(self) -> str:
        return f"n_shots={self.n_shots}, gradient={self.gradient}"


class _ByShifts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, angles: Tensor, sampled: SampledQNN) -> Tensor:
        ctx.sampled = sampled
        return run_circuits(sampled.qnn, angles[None], sampled.n_shots, sampled.generator)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor):
        sampled = ctx.sampled
        return parameter_shift(sampled.qnn, gradient, sampled.n_shots, sampled.generator), None


def infidelity(p: Tensor, q: Tensor) -> float:
    """Return 1 - (sum_i sqrt(p_i q_i))**2, the distance of two distributions, 0 to 1.

    It is the paper's infidelity for states with real non-negative amplitudes. For S shots of d
    equally likely states it is about (d - 1) / (4 S), if S is much larger than d.

    Args:
        p, q: shape (2**N,), each summing to 1.

    Example:
        >>> infidelity(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        0.5
    """
    overlap = (p.double() * q.double()).sqrt().sum().item()
    return max(0.0, round(1 - overlap**2, 15))
