"""The mapping model: basis state and probability in, one classical weight out (Eqs. 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

FEATURES = ("raw", "scaled", "root", "released")
ACTIVATIONS = ("none", "first", "all")

# The released feature is a power 0.3, whose slope at 0 is infinite: below this it is held flat.
RELEASED_FLOOR = 1e-6
ROOT_FLOOR = 1e-6  # added to 2**N p, of which the root has an infinite slope at 0


def probability_feature(probabilities: Tensor, feature: str = "raw") -> Tensor:
    """Turn p into the number that the mapping net sees.

    ``raw`` is p itself (Eq. 2), about 2**-N; ``scaled`` is 2**N p, about 1; ``root`` is the square
    root of that, the amplitude without its sign times 2**(N/2); ``released`` is the authors' code's
    (0.8 tanh(0.1 * 2**(N-1) p))**0.3. The last two are made safe at p = 0.

    Args:
        probabilities: p, shape (2**N,).
        feature: one of "raw", "scaled", "root", "released".

    Returns:
        Shape (2**N,).

    Raises:
        ValueError: if the feature is unknown.

    Example:
        >>> probability_feature(torch.tensor([0.5, 0.0, 0.0, 0.5]), "scaled").tolist()
        [2.0, 0.0, 0.0, 2.0]
    """
    n_states = len(probabilities)
    if feature == "raw":
        return probabilities
    if feature == "scaled":
        return n_states * probabilities
    if feature == "root":
        return (n_states * probabilities + ROOT_FLOOR).sqrt()
    if feature == "released":
        squashed = 0.8 * torch.tanh(0.1 * (n_states / 2) * probabilities)
        return squashed.clamp(min=RELEASED_FLOOR) ** 0.3
    raise ValueError(f"feature must be one of {FEATURES}, got {feature!r}")


def basis_bits(n_qubits: int, n_states: int, values: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Write the first basis states in binary, most significant bit (qubit 0) first.

    Args:
        n_qubits: N.
        n_states: rows, 1 <= n_states <= 2**N.
        values: what stands for bit 0 and for bit 1.

    Returns:
        Shape (n_states, N), PyTorch's default dtype.

    Raises:
        ValueError: if ``n_states`` is out of range.

    Example:
        >>> basis_bits(2, 3, values=(-1, 1)).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]
    """
    if not 1 <= n_states <= 2**n_qubits:
        raise ValueError(f"n_states must be between 1 and {2**n_qubits}, got {n_states}")
    shifts = torch.arange(n_qubits - 1, -1, -1)
    bits = torch.arange(n_states).unsqueeze(1) >> shifts & 1
    return torch.tensor(values, dtype=torch.get_default_dtype())[bits]


def qubits_needed(n_weights: int) -> int:
    """N = ceil(log2 M), and at least 1: qubits with a basis state for each weight.

    Example:
        >>> qubits_needed(6690), qubits_needed(1)
        (13, 1)
    """
    return max(1, (n_weights - 1).bit_length())


def mapping_size(n_inputs: int, hidden: Sequence[int] = (4, 20, 4)) -> int:
    """Weights and biases of a ``MappingNet``.

    Example:
        >>> mapping_size(14), mapping_size(20, (40, 200, 40))
        (249, 17121)
    """
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise([n_inputs, *hidden, 1]))


def mapping_inputs(
    probabilities: Tensor,
    n_weights: int,
    feature: str = "raw",
    bit_values: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Pair each of the first ``n_weights`` basis states with its probability.

    Row i is x_i of Eq. (2), Liu et al. 2024: the N bits of basis state i, most
    significant (qubit 0) first, then p_i = |<i|psi(phi)>|^2. States count from 0.

    Args:
        probabilities: p, shape (2**N,), dimensionless, non-negative, summing to 1.
        n_weights: M, the number of classical weights to generate, 1 <= M <= 2**N.
        feature: what to show of p, see ``probability_feature``.
        bit_values: what stands for bit 0 and for bit 1.

    Returns:
        Shape (M, N + 1), same dtype and device as ``probabilities``.

    Raises:
        ValueError: if the length is not a power of two, M is out of range or the feature unknown.

    Example:
        >>> mapping_inputs(torch.tensor([0.5, 0.0, 0.0, 0.5]), n_weights=3).tolist()
        [[0.0, 0.0, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    n_states = probabilities.numel()
    n_qubits = n_states.bit_length() - 1
    if probabilities.ndim != 1 or n_states != 2**n_qubits:
        raise ValueError(
            "probabilities must have one axis whose length is a power of two, got shape "
            f"{tuple(probabilities.shape)}"
        )
    if not 1 <= n_weights <= n_states:
        raise ValueError(
            f"n_weights must be between 1 and 2**n_qubits = {n_states}, got {n_weights}: "
            "use more qubits"
        )
    bits = basis_bits(n_qubits, n_weights, bit_values).to(probabilities)
    column = probability_feature(probabilities, feature)[:n_weights, None]
    return torch.cat([bits, column], dim=1)


class MappingNet(nn.Module):
    """G_gamma of Eq. (3): a small fully connected net, applied to every row.

    Args:
        n_inputs: N + 1.
        hidden: widths of the hidden layers; (4, 20, 4) for MNIST in Table I.
        activation: tanh after no hidden layer ("none"), the first ("first"), or each ("all").
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a width is below 1 or the activation unknown.

    Example:
        >>> sum(p.numel() for p in MappingNet(14, (4, 20, 4)).parameters())
        249
    """

    def __init__(
        self,
        n_inputs: int,
        hidden: Sequence[int] = (4, 20, 4),
        *,
        activation: str = "first",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if n_inputs < 1:
            raise ValueError(f"n_inputs must be at least 1, got {n_inputs}")
        widths = [n_inputs, *hidden, 1]
        if min(widths) < 1:
            raise ValueError(f"hidden must hold widths of at least 1, got {tuple(hidden)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {activation!r}")
        layers: list[nn.Module] = []
        for place, (n_in, n_out) in enumerate(pairwise(widths)):
            layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
            for parameter in layer.parameters():  # PyTorch's own start, but from our generator
                nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
            layers.append(layer)
            is_hidden = place < len(hidden)
            if is_hidden and (activation == "all" or (activation == "first" and place == 0)):
                layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map rows x_i, shape (M, n_inputs), to weights theta_i, shape (M,)."""
        return self.layers(inputs).squeeze(1)

    @torch.no_grad()
    def standardise_output(self, inputs: Tensor) -> None:
        """Rescale the last layer so that the outputs for ``inputs`` start with mean 0 and sd 1.

        Untrained outputs hardly differ from each other; a target cannot tell its neurons apart.

        Args:
            inputs: shape (M, n_inputs), M >= 2.
        """
        outputs = self(inputs)
        last = self.layers[-1]
        last.weight /= outputs.std()
        last.bias -= outputs.mean()
        last.bias /= outputs.std()
