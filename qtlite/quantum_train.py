"""Quantum-Train whole: circuit -> mapping net -> weights -> target network, trained end to end."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from qtlite.blocked_mlp import blocked_mlp
from qtlite.circuit import Block, ry_linear_cnot
from qtlite.inject import (
    call_with_weights,
    count_weights,
    split_weights,
    weight_shapes,
    with_weights,
    without_weights,
)
from qtlite.mapping import MappingNet, basis_bits, probability_feature
from qtlite.normalisation import SCHEMES, normalise_weights, weight_scales
from qtlite.qnn import QNN


class QuantumTrain(nn.Module):
    """A target network whose M weights a circuit of N = ceil(log2 M) qubits generates (Fig. 1).

    Its own parameters are the circuit's angles and the mapping net's weights (and, where ``names``
    leaves some out, the target's other parameters). The target that is given stays as it is; the
    values of the parameters to generate are not used, pretrained or not.

    Args:
        target: any ``nn.Module``.
        n_blocks: L, blocks of the circuit.
        names: the target's parameters to generate; all of them if left out.
        block: appends one block to a TensorCircuit circuit.
        angles_per_block: K; N if left out.
        angle_range: angles start uniform in [-angle_range, angle_range], radians.
        simulator: "auto", "fused" or "tensorcircuit", see ``QNN``.
        hidden: widths of the mapping net's hidden layers.
        activation: where the mapping net has a tanh: "none", "first" or "all".
        feature: what the mapping net sees of p: "raw", "scaled" or "released".
        bit_values: what stands for bit 0 and for bit 1.
        center_feature: subtract the feature's mean over the M states used.
        center_output: subtract the mean of the M generated numbers.
        normalisation: "none", "tensor" or "row", see ``normalise_weights``; unless "none", the
            mapping net starts with outputs of mean 0 and standard deviation 1.
        weight_gain: scale of normalised weights, see ``weight_scales``.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if an option is unknown or a size out of range.

    Example:
        >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
        >>> model.n_weights, model.n_qubits, model.n_trainable
        (55, 6, 233)
        >>> model(torch.ones(3, 10)).shape
        torch.Size([3, 5])
        >>> model.to_classical()
        Linear(in_features=10, out_features=5, bias=True)
    """

    def __init__(
        self,
        target: nn.Module,
        n_blocks: int,
        *,
        names: Iterable[str] | None = None,
        block: Block = ry_linear_cnot,
        angles_per_block: int | None = None,
        angle_range: float = torch.pi,
        simulator: str = "auto",
        hidden: Sequence[int] = (4, 20, 4),
        activation: str = "all",
        feature: str = "scaled",
        bit_values: tuple[float, float] = (-1.0, 1.0),
        center_feature: bool = False,
        center_output: bool = False,
        normalisation: str = "row",
        weight_gain: float = 2**0.5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if normalisation not in SCHEMES:
            raise ValueError(f"normalisation must be one of {SCHEMES}, got {normalisation!r}")
        self._shapes = weight_shapes(target, names)
        self.n_weights = count_weights(self._shapes)
        self.n_qubits = max(1, (self.n_weights - 1).bit_length())
        # in a tuple, so that PyTorch does not register the target's weights as ours to train
        self._template = (copy.deepcopy(target),)
        self.target = without_weights(target, self._shapes)
        self.qnn = QNN(
            self.n_qubits,
            n_blocks,
            block=block,
            angles_per_block=angles_per_block,
            simulator=simulator,
            angle_range=angle_range,
            generator=generator,
        )
        self.mapping = MappingNet(
            self.n_qubits + 1, hidden, activation=activation, generator=generator
        )
        self.feature, self.center_feature = feature, center_feature
        self.center_output, self.normalisation = center_output, normalisation
        self.bit_values, self.activation = bit_values, activation
        self._scales = weight_scales(target, self._shapes, weight_gain)
        # transposed, as blocked_mlp wants its inputs: one line a bit, shape (N, M)
        bits = basis_bits(self.n_qubits, self.n_weights, bit_values).T.contiguous()
        self.register_buffer("_bits", bits, persistent=False)
        if normalisation != "none" and self.n_weights > 1:
            with torch.no_grad():
                self.mapping.standardise_output(self._mapping_inputs())
        like = target.get_parameter(next(iter(self._shapes)))
        self.to(device=like.device, dtype=like.dtype)

    @property
    def n_trainable(self) -> int:
        """Parameters that training changes: angles, mapping net, and target tensors left out.

        Frozen ones (``requires_grad`` off) do not count.
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def _mapping_inputs(self) -> Tensor:
        """``mapping_inputs`` with the bits, which never change, kept; shape (M, N + 1)."""
        column = probability_feature(self.qnn(), self.feature)[: self.n_weights]
        if self.center_feature:
            column = column - column.mean()
        return torch.cat([self._bits, column.unsqueeze(0)]).T

    def weights(self) -> dict[str, Tensor]:
        """Generate the target's tensors by name, differentiably."""
        flat = blocked_mlp(self.mapping.layers, self._mapping_inputs())
        if self.center_output:
            flat = flat - flat.mean()
        split = split_weights(flat, self._shapes)
        return normalise_weights(split, self._scales, self.normalisation)

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the target with freshly generated weights."""
        return call_with_weights(self.target, self.weights(), *args, **kwargs)

    @torch.no_grad()
    def to_classical(self) -> nn.Module:
        """Copy the target with the generated weights in it: a plain network, no circuit left."""
        return with_weights(self._template[0], self.target, self.weights())
