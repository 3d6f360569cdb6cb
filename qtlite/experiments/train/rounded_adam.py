"""Training that ends on a grid: each number a whole number of steps away from its start.

In the last epochs numbers are rounded, a few at a time, and stay where they are, while the others
go on learning and make up for the rounding. Groups of numbers have turns. Within a group, those
whose rounding costs most come first: E[g^2] times the square of the step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qtlite.experiments.bits.entropy_coding import LARGEST
from qtlite.experiments.train.full_matrix_adam import FullMatrixAdam

EVERY = 20  # optimiser steps between roundings
FINAL = 0.97  # of the rounding steps, after which all numbers are rounded


class RoundedAdam(FullMatrixAdam):
    """``FullMatrixAdam`` that ends with every number on the grid around its value of now.

    Args:
        parameters: as for ``FullMatrixAdam``; their values are the grid's origin.
        steps: of the grid, a tensor for each parameter tensor.
        turns: of rounding, likewise; lower ones come first.
        n_exact: optimiser steps before the first number is rounded.
        n_steps: optimiser steps in all.
        pull: towards the origin: weight in the loss of the code's length, nats. A tensor's n
            numbers, at places k on the grid, take n / 2 ln(mean of k^2), up to a constant.
        **options: of ``FullMatrixAdam``.

    Raises:
        ValueError: see ``FullMatrixAdam``.

    Example:
        >>> x = nn.Parameter(torch.tensor([3.0, -2.0]))
        >>> steps, turns = [torch.full((2,), 0.25)], [torch.zeros(2)]
        >>> optimiser = RoundedAdam([x], steps=steps, turns=turns, n_exact=50, n_steps=100, lr=0.1)
        >>> for _ in range(100):
        ...     optimiser.zero_grad()
        ...     ((x[0] + x[1] - 0.6) ** 2 + x[0] ** 2).backward()
        ...     optimiser.step()
        >>> x.tolist()
        [0.0, 0.5]
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        steps: Sequence[Tensor],
        turns: Sequence[Tensor],
        n_exact: int,
        n_steps: int,
        pull: float = 0.0,
        **options: object,
    ):
        super().__init__(parameters, **options)
        self._grid, self._turns = self._flat(steps), self._flat(turns)
        self._origin, self._pull = self._flat(self.param_groups[0]["params"]), pull
        self._n_exact, self._n_steps = n_exact, n_steps

    @torch.no_grad()
    def step(self) -> None:
        """Move every number that is not rounded, by its ``.grad``, then round some more."""
        own = self.param_groups[0]["params"]
        before = self._flat(own)
        state = self.state[own[0]]
        rounded = state["rounded"] > 0 if state else torch.zeros_like(before, dtype=torch.bool)
        gradient = self._flat([p.grad for p in own])
        gradient += self._pull * self._length_gradient(before - self._origin)
        gradient[rounded] = 0
        self._scatter([p.grad for p in own], gradient)
        super().step()
        after = torch.where(rounded, before, self._flat(own))
        state = self.state[own[0]]
        done = int(state["n_steps"]) - self._n_exact
        if done > 0 and (done % EVERY == 0 or done + self._n_exact == self._n_steps):
            share = done / (FINAL * (self._n_steps - self._n_exact))
            n_more = min(len(after), int(len(after) * share)) - int(rounded.sum())
            cost = torch.diag(state["matrix"]) * self._grid**2
            urgency = 0.5 * cost / cost.max().clamp(min=1e-30) - self._turns
            chosen = urgency.masked_fill(rounded, -torch.inf).topk(n_more).indices
            places = ((after - self._origin) / self._grid).round().clamp(-LARGEST, LARGEST)
            on_grid = self._origin + places * self._grid
            after[chosen] = on_grid[chosen]
            rounded[chosen] = True
        state["rounded"] = rounded.to(after.dtype)  # load_state_dict keeps this type
        self._scatter(own, after)

    def _length_gradient(self, moved: Tensor) -> Tensor:
        """Of the code's length: each number over its tensor's mean square, which a step bounds."""
        sizes = [p.numel() for p in self.param_groups[0]["params"]]
        parts = zip(moved.split(sizes), self._grid.split(sizes), strict=True)
        squares = [
            torch.maximum(m.square().mean(), s.square().mean()).expand_as(m) for m, s in parts
        ]
        return moved / torch.cat(squares)

    @staticmethod
    def _flat(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().flatten() for tensor in tensors])

    @staticmethod
    def _scatter(tensors: Sequence[Tensor], flat: Tensor) -> None:
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
