"""Quantum-Train whole: circuit -> mapping net -> weights -> target network, trained end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.inject import (
    Injection,
    copy_target,
    count_weights,
    not_compiled,
    weight_shapes,
    with_weights,
)
from qtlite.mapping import FEATURES, MappingNet, qubits_needed
from qtlite.normalisation import Normalisation, weight_scales
from qtlite.qnn import QNN


class GeneratedNetwork(nn.Module):
    """Normalise M generated numbers, put them in the target's place and run it (Fig. 1, right).

    A subclass says in ``generate`` where the numbers come from: a circuit and a mapping net in
    ``QuantumTrain``, other things in the controls. What it registers is trained. The target that is
    given stays as it is; of the values of its parameters to generate, only those are used that
    ``weight_scales`` names.

    Args:
        target: any ``nn.Module``.
        names: the target's parameters to generate; all of them if left out.
        normalisation: "none", "tensor" or "row", see ``normalise_weights``.
        weight_gain: scale of normalised weights, see ``weight_scales``.

    Raises:
        ValueError: if an option is unknown or a size out of range.

    Example:
        >>> class Stored(GeneratedNetwork):
        ...     def __init__(self, target):
        ...         super().__init__(target)
        ...         self.numbers = nn.Parameter(torch.randn(self.n_weights))
        ...     def generate(self):
        ...         return self.numbers
        >>> model = Stored(nn.Linear(10, 5))
        >>> model.n_weights, model.n_trainable, model(torch.ones(3, 10)).shape
        (55, 55, torch.Size([3, 5]))
    """

    def __init__(
        self,
        target: nn.Module,
        *,
        names: Iterable[str] | None = None,
        normalisation: str = "row",
        weight_gain: float = 2**0.5,
    ):
        super().__init__()
        shapes = weight_shapes(target, names)
        scales = weight_scales(target, shapes, weight_gain)
        self.n_weights = count_weights(shapes)
        self.normalise = Normalisation(shapes, scales, normalisation)
        # in a tuple, so that PyTorch does not register the target's weights as ours to train
        self._template = (copy_target(target),)
        self._inject = Injection(target, shapes)
        self.target = self._inject.module

    def generate(self) -> Tensor:
        """Return the M numbers, shape (M,), of order 1 if they are to be normalised."""
        raise NotImplementedError

    @property
    def n_trainable(self) -> int:
        """Parameters that training changes, target tensors that are left out included.

        Frozen ones (``requires_grad`` off) do not count.
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @not_compiled
    def weights(self) -> dict[str, Tensor]:
        """Generate the target's tensors by name, differentiably; autocast does not round them."""
        device = next(self.parameters(), torch.empty(0)).device
        with torch.autocast(device.type, enabled=False):
            return self.normalise(self.generate())

    @contextmanager
    def generated(self) -> Iterator[nn.Module]:
        """The target with freshly generated weights, for the time of a with block.

        For its other methods (``with model.generated() as target: target.generate(...)``), and
        around ``backward()`` where the target checkpoints activations (``use_reentrant=False``).

        Example:
            >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
            >>> with model.generated() as target:
            ...     torch.equal(target.weight, model.weights()["weight"])
            True
        """
        with self._inject(self.weights()) as target:
            yield target

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the target with freshly generated weights."""
        with self.generated() as target:
            return target(*args, **kwargs)

    @torch.no_grad()
    def to_classical(self) -> nn.Module:
        """Copy the target with the generated weights in it: a plain network, nothing else left."""
        return with_weights(self._template[0], self.target, self.weights())


class QuantumTrain(GeneratedNetwork):
    """A target network whose M weights a circuit of N = ceil(log2 M) qubits generates (Fig. 1).

    Its own parameters are the circuit's angles and the mapping net's weights (and, where ``names``
    leaves some out, the target's other parameters).

    Args:
        target: any ``nn.Module``.
        n_blocks: L, blocks of the circuit.
        block: appends one block to a TensorCircuit circuit; the paper's if left out.
        qnn: another source of probabilities in place of ``n_blocks`` and ``block``: a ``QNN`` with
            options of its own, or any module that takes no input and returns shape (2**N,).
        mapping: a ``MappingNet`` with options of its own.
        names: the target's parameters to generate; all of them if left out.
        feature: what the mapping net sees of p: "raw", "scaled", "root", or a function from p,
            shape (2**N,), to the same shape.
        normalisation: "none", "tensor" or "row", see ``normalise_weights``. Unless it is "none",
            the mapping net's last layer is rescaled so that the numbers start with mean 0 and
            standard deviation 1: load a trained net with ``load_state_dict`` afterwards.
        weight_gain: scale of normalised weights, see ``weight_scales``.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if an option is unknown, contradicts another or is out of range, or ``qnn``
            returns another shape.

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
        n_blocks: int | None = None,
        *,
        block: Block | None = None,
        qnn: nn.Module | None = None,
        mapping: MappingNet | None = None,
        names: Iterable[str] | None = None,
        feature: str | Callable[[Tensor], Tensor] = "scaled",
        normalisation: str = "row",
        weight_gain: float = 2**0.5,
        generator: torch.Generator | None = None,
    ):
        if not callable(feature) and feature not in list(FEATURES):
            raise ValueError(f"feature must be one of {tuple(FEATURES)}, got {feature!r}")
        if mapping is not None and not isinstance(mapping, MappingNet):
            raise ValueError(f"mapping must be a MappingNet, got {mapping!r}")
        if qnn is not None and not isinstance(qnn, nn.Module):
            raise ValueError(f"qnn must be a module, got {type(qnn).__name__}")
        if (n_blocks is None) == (qnn is None) or (block is not None and qnn is not None):
            raise ValueError(
                f"n_blocks (and block) or qnn must be given, got n_blocks={n_blocks}, "
                f"block={block}, qnn={qnn}"
            )
        super().__init__(target, names=names, normalisation=normalisation, weight_gain=weight_gain)
        self.n_qubits = qubits_needed(self.n_weights)
        self.feature = feature if callable(feature) else FEATURES[feature]
        if qnn is None:
            block = block or ry_linear_cnot
            qnn = QNN(self.n_qubits, n_blocks, block=block, generator=generator)
        self.qnn = qnn
        self.mapping = mapping or MappingNet(self.n_qubits, generator=generator)
        if self.mapping.n_qubits != self.n_qubits:
            raise ValueError(
                f"mapping must be a net for {self.n_qubits} qubits, got {self.mapping.n_qubits}"
            )
        with torch.no_grad():
            p = self.probabilities()
            column = self.feature(p)[: self.n_weights]
        if not (p.is_floating_point() and (p >= 0).all() and p.isfinite().all()):
            raise ValueError("qnn must return finite numbers of at least 0, got others")
        if normalisation != "none" and self.n_weights > 1:
            self.mapping.standardise_output(column)
        like = target.get_parameter(next(iter(self.normalise.shapes)))
        for part in (self.qnn, self.mapping):  # the target stays as it is
            part.to(device=like.device, dtype=like.dtype)

    def probabilities(self) -> Tensor:
        """Run the circuit: p, shape (2**N,)."""
        probabilities = self.qnn()
        shape = tuple(getattr(probabilities, "shape", (type(probabilities).__name__,)))
        if shape != (2**self.n_qubits,):
            raise ValueError(f"qnn must return shape ({2**self.n_qubits},), got {shape}")
        return probabilities

    def column(self) -> Tensor:
        """Circuit and feature: what the mapping net sees of the first M probabilities."""
        return self.feature(self.probabilities())[: self.n_weights]

    def generate(self) -> Tensor:
        """Circuit, feature, mapping net: the M numbers before normalisation, shape (M,)."""
        return self.mapping(self.column())
