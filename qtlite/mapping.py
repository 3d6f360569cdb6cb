"""The mapping model: basis state and probability in, one number out (Eqs. 2 and 3)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from qtlite import acceleration
from qtlite.checks import check_count, check_pair
from qtlite.circuit import MAX_QUBITS

ACTIVATIONS = ("none", "first", "all")
ROWS = 2**16  # rows that plain PyTorch maps at a time: all at once would take gigabytes


def raw(probabilities: Tensor) -> Tensor:
    """Return p itself, as in Eq. 2: about 2**-N, too small to train with."""
    return probabilities


def scaled(probabilities: Tensor) -> Tensor:
    """Return 2**N p, about 1: of (0.5, 0, 0, 0.5) it makes (2, 0, 0, 2)."""
    return len(probabilities) * probabilities


def root(probabilities: Tensor) -> Tensor:
    """Return sqrt(2**N p), the amplitude's size times 2**(N/2); the slope stays finite at p = 0."""
    return (len(probabilities) * probabilities + 1e-6).sqrt()


FEATURES = {"raw": raw, "scaled": scaled, "root": root}


def qubits_needed(n_weights: int) -> int:
    """Return N = ceil(log2 M), and at least 1: qubits with a basis state for each weight.

    Example:
        >>> qubits_needed(6690), qubits_needed(1)
        (13, 1)
    """
    check_count("n_weights", n_weights, 2**MAX_QUBITS)
    return max(1, (n_weights - 1).bit_length())


def mapping_inputs(
    column: Tensor, n_qubits: int, bit_values: tuple[float, float] = (-1.0, 1.0), first: int = 0
) -> Tensor:
    """Pair basis states with what the mapping net sees of their probabilities: shape (R, N + 1).

    Row i is x_i of Eq. (2): the N bits of basis state i, most significant (qubit 0) first, then the
    feature of p_i = |<i|psi(phi)>|^2. States count from 0. Dtype and device are the column's.

    Args:
        column: the probabilities' feature, shape (R,), R <= 2**N.
        n_qubits: N.
        bit_values: what stands for bit 0 and for bit 1; (0, 1) in the paper.
        first: the basis state of the first row.

    Raises:
        ValueError: if the column has another shape.

    Example:
        >>> mapping_inputs(torch.tensor([0.5, 0.0, 0.0]), n_qubits=2, bit_values=(0, 1)).tolist()
        [[0.0, 0.0, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    check_count("n_qubits", n_qubits, MAX_QUBITS)
    bit_values = check_pair("bit_values", bit_values)
    most = 2**n_qubits - first
    if column.ndim != 1 or not 1 <= len(column) <= most:
        raise ValueError(f"column must have shape (R,), R <= {most}, got {tuple(column.shape)}")
    shifts = torch.arange(n_qubits - 1, -1, -1, device=column.device)
    states = torch.arange(first, first + len(column), device=column.device)
    bits = column.new_tensor(bit_values)[states[:, None] >> shifts & 1]
    return torch.cat([bits, column[:, None]], dim=1)


def fully_connected(
    widths: Sequence[int], activation: str = "all", generator: torch.Generator | None = None
) -> nn.Sequential:
    """Stack linear layers with tanh between them, with PyTorch's own random start.

    Args:
        widths: of the inputs and of each layer.
        activation: tanh after no hidden layer ("none"), the first ("first"), or each ("all").
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a width is below 1 or the activation unknown.

    Example:
        >>> [type(layer).__name__ for layer in fully_connected([14, 4, 1])]
        ['Linear', 'Tanh', 'Linear']
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {ACTIVATIONS}, got {activation!r}")
    for width in widths:
        check_count("hidden", width, 2**16)
    layers: list[nn.Module] = []
    for place, (n_in, n_out) in enumerate(pairwise(widths)):
        if place > 0 and activation in (("first", "all") if place == 1 else ("all",)):
            layers.append(nn.Tanh())
        layers.append(nn.utils.skip_init(nn.Linear, n_in, n_out))
        for parameter in layers[-1].parameters():
            nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return nn.Sequential(*layers)


@torch.no_grad()
def standardise(last: nn.Linear, outputs: Tensor) -> None:
    """Rescale a net's last layer so that its outputs have mean 0 and standard deviation 1.

    Untrained outputs hardly differ from each other: the target's neurons would all be alike.
    """
    last.weight /= outputs.std()
    last.bias.sub_(outputs.mean()).div_(outputs.std())


class MappingNet(nn.Module):
    """G_gamma of Eq. (3): a small fully connected net, applied to every basis state's row.

    Args:
        n_qubits: N; the net has N + 1 inputs.
        hidden: widths of the hidden layers; (4, 20, 4) for MNIST in Table I.
        activation: where it has a tanh, see ``fully_connected``.
        bit_values: what stands for bit 0 and for bit 1 in a row.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a width is below 1, the activation unknown or ``bit_values`` not a pair.

    Example:
        >>> net = MappingNet(n_qubits=13)
        >>> sum(p.numel() for p in net.parameters()), net(torch.ones(6690)).shape
        (249, torch.Size([6690]))
    """

    def __init__(
        self,
        n_qubits: int,
        hidden: Sequence[int] = (4, 20, 4),
        *,
        activation: str = "all",
        bit_values: tuple[float, float] = (-1.0, 1.0),
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_count("n_qubits", n_qubits, MAX_QUBITS)
        if not isinstance(hidden, (list, tuple)):
            raise ValueError(f"hidden must be a sequence of widths, got {hidden!r}")
        self.n_qubits, self.hidden, self.activation = n_qubits, tuple(hidden), activation
        self.bit_values = check_pair("bit_values", bit_values)
        self.layers = fully_connected([n_qubits + 1, *hidden, 1], activation, generator)

    def forward(self, column: Tensor) -> Tensor:
        """Map the feature of the first R basis states, shape (R,), to R numbers, shape (R,)."""
        column = column.to(self.layers[0].weight)  # a circuit of the reader's may be float64
        numbers = acceleration.mapping(self, column)
        if numbers is None:
            parts = []
            for i, part in enumerate(column.split(ROWS)):
                rows = mapping_inputs(part, self.n_qubits, self.bit_values, first=i * ROWS)
                parts.append(self.layers(rows).flatten())
            numbers = torch.cat(parts)
        return numbers

    def standardise_output(self, column: Tensor) -> None:
        """``standardise`` the numbers for a column, shape (R,), R >= 2."""
        with acceleration.plain():  # the same start whatever computes later
            standardise(self.layers[-1], self(column).detach())
