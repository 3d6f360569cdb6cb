"""Quantum-Train whole: circuit -> mapping net -> weights -> target network, trained end to end."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.inject import Injection, copy_target, not_compiled, weight_shapes
from qtlite.mapping import FEATURES, MappingNet, qubits_needed
from qtlite.normalisation import Normalisation, weight_scales
from qtlite.qnn import QNN


class GeneratedNetwork(nn.Module):
    """Normalise M generated numbers, put them in the target's place and run it (Fig. 1, right).

    A subclass says in ``generate`` where the numbers come from: a circuit and a mapping net in
    ``QuantumTrain``, other things in the controls. What it registers is trained. The target that is
    given stays as it is; of its parameters' values only means are used, see ``weight_scales``.

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
        self.n_weights = sum(shape.numel() for shape in shapes.values())
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
        """Parameters that training changes: all that are registered and not frozen."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @not_compiled
    def weights(self) -> dict[str, Tensor]:
        """Generate the target's tensors by name, differentiably; autocast does not round them."""
        with torch.autocast(next(self.parameters(), torch.empty(0)).device.type, enabled=False):
            return self.normalise(self.generate())

    def generated(self) -> AbstractContextManager[nn.Module]:
        """The target with freshly generated weights, for the time of a with block.

        For its other methods (``with model.generated() as target: target.generate(...)``), and
        around ``backward()`` where the target checkpoints activations (``use_reentrant=False``).

        Example:
            >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
            >>> with model.generated() as target:
            ...     torch.equal(target.weight, model.weights()["weight"])
            True
        """
        return self._inject(self.weights())

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the target with freshly generated weights."""
        with self.generated() as target:
            return target(*args, **kwargs)

    @torch.no_grad()
    def to_classical(self) -> nn.Module:
        """Copy the target with the generated weights in it: a plain network, nothing else left."""
        plain = copy_target(self._template[0])
        with self.generated() as target:
            values = dict(target.named_parameters()) | dict(target.named_buffers())
            for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
                tensor.data = values[name].detach().clone()
        for copied, original in zip(plain.modules(), self.target.modules(), strict=True):
            copied.training = original.training
        return plain


class QuantumTrain(GeneratedNetwork):
    """A target network whose M weights a circuit of N = ceil(log2 M) qubits generates (Fig. 1).

    Training changes the angles, the mapping net, and what ``names`` leaves out of the target.

    Args:
        target: any ``nn.Module``.
        n_blocks: L, blocks of the circuit.
        block: appends one block to a TensorCircuit circuit; the paper's if left out.
        qnn: another source of probabilities in place of ``n_blocks`` and ``block``: a ``QNN`` with
            options of its own, or any module that takes no input and returns shape (2**N,).
        mapping: a ``MappingNet`` with options of its own.
        feature: what the mapping net sees of p: "raw", "scaled", "root", or a function from p,
            shape (2**N,), to the same shape.
        generator: source of the random start; PyTorch's global one if left out.
        options: ``names``, ``normalisation`` and ``weight_gain`` of ``GeneratedNetwork``. Unless
            ``normalisation`` is "none", the mapping net's last layer is rescaled so that the
            numbers start with mean 0 and standard deviation 1: load a trained net with
            ``load_state_dict`` afterwards.

    Raises:
        ValueError: if an option is unknown, contradicts another or is out of range, or ``qnn``
            returns another shape.

    Example:
        >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
        >>> model.n_weights, model.n_qubits, model.n_trainable
        (55, 6, 233)
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
        feature: str | Callable[[Tensor], Tensor] = "scaled",
        generator: torch.Generator | None = None,
        **options: object,
    ):
        if not callable(feature) and feature not in list(FEATURES):
            raise ValueError(f"feature must be one of {tuple(FEATURES)}, got {feature!r}")
        one_of_them = (n_blocks is None) != (qnn is None) and None in (block, qnn)
        if not one_of_them or not isinstance(qnn, nn.Module | None):
            raise ValueError(f"n_blocks or a module qnn must be given, got {n_blocks}, {type(qnn)}")
        super().__init__(target, **options)
        self.feature = feature if callable(feature) else FEATURES[feature]
        n = self.n_qubits = qubits_needed(self.n_weights)
        if qnn is None:
            qnn = QNN(n, n_blocks, block=block or ry_linear_cnot, generator=generator)
        if mapping is None:
            mapping = MappingNet(n, generator=generator)
        if not isinstance(mapping, MappingNet) or mapping.n_qubits != n:
            got = getattr(mapping, "n_qubits", mapping)
            raise ValueError(f"mapping must be a MappingNet of {n} qubits, got {got}")
        self.qnn, self.mapping = qnn, mapping
        try:
            with torch.no_grad():
                p = self.qnn()
        except TypeError as error:
            raise ValueError(f"qnn must take no input, got {type(qnn)}: {error}") from error
        fits = isinstance(p, Tensor) and p.shape == (2**n,) and p.is_floating_point()
        if not fits or not 0 <= p.min() <= p.max() < torch.inf:
            found = " ".join(repr(p).split())
            raise ValueError(f"qnn must return {2**n} finite numbers from 0, got {found:.60}")
        if self.normalise.scheme != "none" and self.n_weights > 1:
            self.mapping.standardise_output(self.feature(p)[: self.n_weights])
        like = target.get_parameter(next(iter(self.normalise.shapes)))
        for part in (self.qnn, self.mapping):  # the target stays as it is
            part.to(device=like.device, dtype=like.dtype)

    def generate(self) -> Tensor:
        """Circuit, feature, mapping net: the M numbers before normalisation, shape (M,)."""
        probabilities = self.qnn()
        column = self.feature(probabilities)[: self.n_weights]
        return self.mapping(column)
