"""A target network whose weights come out of something smaller, whatever that is."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qtlite.engine.normalisation import FlatNormalisation
from qtlite.inject import (
    call_with_weights,
    count_weights,
    weight_shapes,
    with_weights,
    without_weights,
)
from qtlite.normalisation import SCHEMES, WeightScale, weight_scales


def check_plain(network: nn.Module) -> None:
    """Refuse to export what still generates its weights.

    Raises:
        ValueError: if the network is a ``GeneratedNetwork``.

    Example:
        >>> check_plain(nn.Linear(3, 2))
    """
    if isinstance(network, GeneratedNetwork):
        raise ValueError(
            f"network must be a plain one, got {type(network).__name__}: give its to_classical()"
        )


class GeneratedNetwork(nn.Module):
    """Normalise M generated numbers, put them in the target's place and run it (Fig. 1, right).

    A subclass says in ``generate`` where the numbers come from: a circuit and a mapping net in
    ``QuantumTrain``, other things in the controls. What it registers is trained; the target that is
    given stays as it is, and the values of the parameters to generate are not used.

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
        if normalisation not in SCHEMES:
            raise ValueError(f"normalisation must be one of {SCHEMES}, got {normalisation!r}")
        self._shapes = weight_shapes(target, names)
        self.n_weights = count_weights(self._shapes)
        self.normalisation = normalisation
        # in a tuple, so that PyTorch does not register the target's weights as ours to train
        self._template = (copy.deepcopy(target),)
        self.target = without_weights(target, self._shapes)
        self._set_scales(weight_scales(target, self._shapes, weight_gain))

    def _set_scales(self, scales: dict[str, WeightScale]) -> None:
        self._scales = scales
        self._normalise = FlatNormalisation(self._shapes, scales, self.normalisation)

    def generate(self) -> Tensor:
        """Return the M numbers, shape (M,), of order 1 if they are to be normalised."""
        raise NotImplementedError

    @property
    def n_trainable(self) -> int:
        """Parameters that training changes, target tensors that are left out included.

        Frozen ones (``requires_grad`` off) do not count.
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def weights(self) -> dict[str, Tensor]:
        """Generate the target's tensors by name, differentiably."""
        return self._normalise(self.generate())

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the target with freshly generated weights."""
        return call_with_weights(self.target, self.weights(), *args, **kwargs)

    @torch.no_grad()
    def to_classical(self) -> nn.Module:
        """Copy the target with the generated weights in it: a plain network, nothing else left."""
        return with_weights(self._template[0], self.target, self.weights())
