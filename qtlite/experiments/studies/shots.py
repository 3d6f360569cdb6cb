"""Finite shots: p estimated by counting, gradients from shifted circuits, and what both cost.

Measuring gives one basis state for each run of the circuit (a shot). The probabilities that
Quantum-Train needs are then frequencies p^ = counts / S, with an error of sqrt(p (1 - p) / S).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.circuit import tensorcircuit_with
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.train.loop import evaluate
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

GRADIENTS = ("parameter_shift", "straight_through")
SAMPLED_AT_ONCE = 2**20  # shots; the sampler holds several arrays of this length


def sample_frequencies(
    probabilities: Tensor, n_shots: int, generator: torch.Generator | None = None
) -> Tensor:
    """Estimate p by measuring n_shots times, with TensorCircuit's own sampler.

    ``tensorcircuit.Circuit.sample`` draws from the exact state whose amplitudes are sqrt(p): only
    their squares matter to a measurement, and TensorCircuit need not run the gates again.

    Args:
        probabilities: p, shape (2**N,) or (B, 2**N) for B circuits, each summing to 1.
        n_shots: S >= 1, of each circuit.
        generator: source of randomness, on the CPU; PyTorch's global one if left out.

    Returns:
        p^ = counts / S, shape, dtype and device of ``probabilities``; no gradient.

    Raises:
        ValueError: if ``n_shots`` is below 1.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_frequencies(torch.tensor([0.5, 0.0, 0.0, 0.5]), 8, generator)
        tensor([0.6250, 0.0000, 0.0000, 0.3750])
    """
    if n_shots < 1:
        raise ValueError(f"n_shots must be at least 1, got {n_shots}")
    rows = probabilities.detach().double().cpu().reshape(-1, probabilities.shape[-1])
    n_qubits = rows.shape[1].bit_length() - 1
    frequencies = torch.zeros_like(rows)
    # double precision: in single, 2**24 shots would see the rounding of the running sum of p
    with tensorcircuit_with("numpy", "complex128") as tc:
        for row, counts in zip(rows, frequencies, strict=True):
            circuit = tc.Circuit(n_qubits, inputs=(row / row.sum()).sqrt().numpy())
            for done in range(0, n_shots, SAMPLED_AT_ONCE):
                n_now = min(SAMPLED_AT_ONCE, n_shots - done)
                uniform = torch.rand(n_now, dtype=torch.float64, generator=generator)
                # sorted: the counts are the same, and the sampler's searches stay in the cache
                counts += torch.as_tensor(
                    circuit.sample(
                        batch=n_now,
                        allow_state=True,
                        format="count_vector",
                        status=uniform.sort().values.numpy(),
                    )
                )
    return (frequencies / n_shots).reshape(probabilities.shape).to(probabilities)


def run_circuits(
    qnn: QNN,
    angles: Tensor,
    n_shots: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run a circuit at several settings of its angles, exactly or with finite shots.

    Args:
        qnn: gives the circuit; its own angles are not used.
        angles: B settings, shape (B, L, K), radians.
        n_shots: S of each setting; exact probabilities if left out.
        generator: source of the shots.

    Returns:
        p or p^, shape (B, 2**N); no gradient.
    """
    with torch.no_grad():
        exact = [torch.func.functional_call(qnn, {"angles": setting}, ()) for setting in angles]
    probabilities = torch.stack(exact)
    if n_shots is None:
        return probabilities
    return sample_frequencies(probabilities, n_shots, generator)


def parameter_shift(
    qnn: QNN,
    gradient: Tensor,
    n_shots: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Turn d loss / d p into d loss / d angles by running circuits alone, two for each angle.

    For an angle mu of one Ry gate, dp / dmu = (p(mu + pi/2) - p(mu - pi/2)) / 2 exactly (Mitarai
    et al. 2018; Schuld et al. 2019). The chain rule does the rest. With shots, the result is
    unbiased for the ``gradient`` given; where that came from a p^ itself, its own bias remains.

    Args:
        qnn: every angle turns one Ry gate, as in ``ry_linear_cnot``.
        gradient: d loss / d p, shape (2**N,).
        n_shots: S of each of the 2 L K circuits; exact if left out.
        generator: source of the shots.

    Returns:
        d loss / d angles, shape (L, K).

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
    one_each = torch.eye(angles.numel(), dtype=angles.dtype, device=angles.device)
    one_each = one_each.reshape(-1, *angles.shape)
    shifts = torch.pi / 2 * torch.stack([one_each, -one_each])  # (2, L K, L, K)
    settings = (angles + shifts).flatten(0, 1)
    p_plus, p_minus = run_circuits(qnn, settings, n_shots, generator).chunk(2)
    return ((p_plus - p_minus) / 2 @ gradient).reshape(angles.shape)


class SampledQNN(nn.Module):
    """A ``QNN`` that is measured: every forward pass draws new shots.

    Put it in place of a model's circuit: ``model.qnn = SampledQNN(model.qnn, 4096)``.

    Args:
        qnn: the circuit; its angles stay its own.
        n_shots: S, of every circuit that is run.
        gradient: "parameter_shift" is what a quantum computer can do: 2 L K more circuits with S
            shots each at every backward pass. "straight_through" is a substitute that only a
            simulator has: p^ forward, the exact dp / dangles backward.
        generator: source of the shots.

    Raises:
        ValueError: if the way to the gradient is unknown, or ``n_shots`` is below 1.

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
        if n_shots < 1:
            raise ValueError(f"n_shots must be at least 1, got {n_shots}")
        self.qnn, self.n_shots, self.gradient = qnn, n_shots, gradient
        self.generator = generator

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
    """1 - (sum_i sqrt(p_i q_i))**2, how far two distributions are from each other, 0 to 1.

    It is the paper's infidelity for states with real non-negative amplitudes. A p^ from S shots of
    d equally likely states has about (d - 1) / (4 S), once S is well above d.

    Args:
        p, q: shape (2**N,), each summing to 1.

    Example:
        >>> infidelity(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        0.5
    """
    overlap = (p.double() * q.double()).sqrt().sum().item()
    return max(0.0, round(1 - overlap**2, 15))


def paper_shots(n_qubits: int, epsilon: float) -> float:
    """The paper's suggestion for infidelity epsilon, 2^N/epsilon ln(2^N/epsilon) (its Sec. V).

    It is an order of magnitude: the constant in front is not known and taken as 1 here.

    Args:
        n_qubits: N.
        epsilon: infidelity, above 0 and at most 1.

    Raises:
        ValueError: if ``epsilon`` is out of range.

    Example:
        >>> f"{paper_shots(13, 0.01):.1e}"
        '1.1e+07'
    """
    if not 0 < epsilon <= 1:
        raise ValueError(f"epsilon must be above 0 and at most 1, got {epsilon}")
    return 2**n_qubits / epsilon * math.log(2**n_qubits / epsilon)


def circuits_per_step(n_blocks: int, angles_per_block: int) -> int:
    """Settings of the circuit that one training step runs: once forward, twice for each angle.

    Example:
        >>> circuits_per_step(16, 13)
        417
    """
    return 1 + 2 * n_blocks * angles_per_block


def accuracy_against_shots(
    model: QuantumTrain,
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    *,
    shots: Sequence[int],
    n_draws: int,
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """Measure a trained model's circuit with S shots, write the network from p^, test it; repeat.

    Args:
        model: trained with exact probabilities.
        config: says how pixels are normalised.
        images: uint8, shape (n, channels, height, width).
        labels: shape (n,).
        shots: values of S.
        n_draws: networks for each S, at least 2.
        generator: source of the shots.

    Returns:
        ``exact_accuracy`` and ``exact_loss`` (nats), and for each S in ``points``: ``accuracies``
        and ``losses`` of every draw, their mean ``infidelity``, and of the generated weights
        ``weight_squared_bias`` (of their expectation, estimated without bias, so that it can be
        negative) and ``weight_variance``, both in units of the exact weights' variance.

    Raises:
        ValueError: if ``n_draws`` is below 2.
    """
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    with torch.no_grad():
        p = model.qnn()
    exact = network_from(model, p)
    exact_loss, exact_accuracy = evaluate(exact, images, labels, config)
    points = []
    for n_shots in shots:
        draws = [sample_frequencies(p, n_shots, generator) for _ in range(n_draws)]
        networks = [network_from(model, draw) for draw in draws]
        tested = [evaluate(network, images, labels, config) for network in networks]
        weights = torch.stack([_flat(network) for network in networks])
        squared_bias, variance = _squared_bias_and_variance(weights, _flat(exact))
        points.append(
            {
                "n_shots": n_shots,
                "accuracies": [accuracy for _, accuracy in tested],
                "losses": [loss for loss, _ in tested],
                "infidelity": sum(infidelity(p, draw) for draw in draws) / n_draws,
                "weight_squared_bias": squared_bias,
                "weight_variance": variance,
            }
        )
    return {"exact_accuracy": exact_accuracy, "exact_loss": exact_loss, "points": points}


def network_from(model: QuantumTrain, probabilities: Tensor) -> nn.Module:
    """The plain network that a trained model writes from given probabilities.

    Args:
        model: left as it is.
        probabilities: in place of what its circuit gives, shape (2**N,).

    Example:
        >>> model = QuantumTrain(nn.Linear(3, 2), n_blocks=1)
        >>> network_from(model, torch.full((8,), 1 / 8))
        Linear(in_features=3, out_features=2, bias=True)
    """
    circuit = model.qnn
    model.qnn = _Given(probabilities)
    try:
        return model.to_classical()
    finally:
        model.qnn = circuit


class _Given(nn.Module):
    def __init__(self, probabilities: Tensor):
        super().__init__()
        self.probabilities = probabilities

    def forward(self) -> Tensor:
        return self.probabilities


def _flat(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().double()


def _squared_bias_and_variance(draws: Tensor, exact: Tensor) -> tuple[float, float]:
    """Mean squares over all weights, in units of the exact weights' variance.

    The mean over few draws scatters about its expectation; what that adds to the squared bias is
    subtracted, so that the estimate is unbiased (and may be negative where there is no bias).

    Shapes (draws, M) and (M,).
    """
    variance = draws.var(dim=0).mean()
    bias = (draws.mean(dim=0) - exact).square().mean() - variance / len(draws)
    return (bias / exact.var()).item(), (variance / exact.var()).item()


def shots_needed(
    shots: Sequence[int], accuracies: Sequence[float], exact: float, tolerance: float = 0.01
) -> float | None:
    """The S from which the accuracy stays within ``tolerance`` of exact.

    Linear in log2 S between the two values measured beside it.

    Args:
        shots: values of S, rising.
        accuracies: mean accuracy at each, in [0, 1].
        exact: accuracy with exact probabilities.
        tolerance: as a fraction: 0.01 is one percentage point.

    Returns:
        S; None where even the last S does not reach it. The first S if all do.

    Example:
        >>> round(shots_needed([256, 1024, 4096], [0.5, 0.88, 0.90], exact=0.90))
        2048
    """
    wanted = exact - tolerance
    reached = len(shots)
    while reached > 0 and accuracies[reached - 1] >= wanted:
        reached -= 1
    if reached == len(shots):
        return None
    if reached == 0:
        return float(shots[0])
    low, high = accuracies[reached - 1], accuracies[reached]
    part = (wanted - low) / (high - low)
    return shots[reached - 1] * (shots[reached] / shots[reached - 1]) ** part
