"""Quantum-Train whole: circuit -> mapping net -> weights -> target network, trained end to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.engine.mapping import blocked_mlp, can_be_compiled, is_plain, read_net
from qtlite.generated import GeneratedNetwork
from qtlite.mapping import FEATURES, MappingNet, basis_bits, probability_feature, qubits_needed
from qtlite.one_function import Constants, generate_weights, is_small
from qtlite.qnn import QNN


class QuantumTrain(GeneratedNetwork):
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
        qnn: another source of probabilities in place of the circuit, which the options above it
            describe: a module that takes no input and returns shape (2**N,).
        hidden: widths of the mapping net's hidden layers.
        activation: where the mapping net has a tanh: "none", "first" or "all".
        feature: what the mapping net sees of p: "raw", "scaled", "root" or "released".
        bit_values: what stands for bit 0 and for bit 1.
        center_feature: subtract the feature's mean over the M states used.
        center_output: subtract the mean of the M generated numbers.
        normalisation: "none", "tensor" or "row", see ``normalise_weights``; unless "none", the
            mapping net starts with outputs of mean 0 and standard deviation 1.
        weight_gain: scale of normalised weights, see ``weight_scales``.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if an option is unknown, a size out of range, or ``qnn`` returns another shape.

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
        qnn: nn.Module | None = None,
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
        if feature not in FEATURES:
            raise ValueError(f"feature must be one of {FEATURES}, got {feature!r}")
        if len(bit_values) != 2:
            raise ValueError(f"bit_values must be two numbers, got {bit_values}")
        super().__init__(target, names=names, normalisation=normalisation, weight_gain=weight_gain)
        self.n_qubits = qubits_needed(self.n_weights)
        if qnn is None:
            qnn = QNN(
                self.n_qubits,
                n_blocks,
                block=block,
                angles_per_block=angles_per_block,
                simulator=simulator,
                angle_range=angle_range,
                generator=generator,
            )
        self.qnn = qnn
        self.mapping = MappingNet(
            self.n_qubits + 1, hidden, activation=activation, generator=generator
        )
        self.feature, self.center_feature = feature, center_feature
        self.center_output = center_output
        self.bit_values, self.activation = bit_values, activation
        bits = basis_bits(self.n_qubits, self.n_weights, bit_values)
        bits = bits.T.contiguous().T  # as blocked_mlp reads them
        self.register_buffer("_bits", bits, persistent=False)
        if normalisation != "none" and self.n_weights > 1:
            with torch.no_grad():
                inputs = torch.cat([bits, self._column()[:, None]], dim=1)
                self.mapping.standardise_output(inputs)
        like = target.get_parameter(next(iter(self._shapes)))
        for part in (self.qnn, self.mapping):  # the target stays as it is
            part.to(device=like.device, dtype=like.dtype)
        self._bits = self._bits.to(like)

    def weights(self) -> dict[str, Tensor]:
        """Generate the target's tensors by name, differentiably."""
        qnn, bits = self.qnn, self._bits
        if self._is_usual(qnn):
            angles, net = qnn.angles, self.mapping.layers
            layout, tensors = read_net(net)
            fits = bits.shape == (self.n_weights, layout.n_bits) and angles.numel() > 0
            fits = fits and not bits.requires_grad and can_be_compiled(net, bits, angles, *tensors)
            if fits and is_small(layout, self.n_weights):
                block, target = qnn.real_block, self._normalise.layout
                scale = 2.0**self.n_qubits if self.feature == "scaled" else 1.0
                constants = Constants(block, scale, layout, target)
                angles = block.step_angles(angles)
                found = generate_weights(constants, bits, angles, tensors)
                return dict(zip(self._shapes, found, strict=True))
        return super().weights()

    def _is_usual(self, qnn: nn.Module) -> bool:
        """Whether ``generate_weights`` does all that ``generate`` and what it calls would do.

        Where the net can be compiled, so can the circuit and the normalisation.
        """
        return (
            (type(self).generate, type(self)._column) == _METHODS
            and self.__dict__.keys().isdisjoint(("generate", "_column"))
            and type(qnn) is QNN
            and is_plain(qnn, _QNN_FORWARDS)
            and qnn.real_block is not None
            and qnn.n_qubits == self.n_qubits
            and self.feature in ("raw", "scaled")
            and not (self.center_feature or self.center_output)
            and self._normalise.scheme == "row"
        )

    def _column(self) -> Tensor:
        """The last column of ``mapping_inputs``, shape (M,); the bits before it never change."""
        p = self.qnn()
        if p.shape != (2**self.n_qubits,):
            raise ValueError(f"qnn must return shape ({2**self.n_qubits},), got {tuple(p.shape)}")
        column = probability_feature(p, self.feature)[: self.n_weights]
        return column - column.mean() if self.center_feature else column

    def generate(self) -> Tensor:
        """Circuit, then mapping net: the M numbers before normalisation, shape (M,)."""
        flat = blocked_mlp(self.mapping.layers, self._bits, self._column())
        return flat - flat.mean() if self.center_output else flat


# as they are here: a caller may put others in their place
_METHODS = QuantumTrain.generate, QuantumTrain._column
_QNN_FORWARDS = (QNN.forward,)
