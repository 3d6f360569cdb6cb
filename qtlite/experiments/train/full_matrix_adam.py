"""Adam in the eigenbasis of the gradient's second moment, over all parameters as one vector.

A few hundred parameters generate thousands of weights. Each parameter changes many weights, and
their effects overlap: the loss is ill-conditioned, but not along the parameters' own axes, which
are all that Adam can scale. With so few parameters the full second-moment matrix E[g g^T] is
affordable. This is SOAP (Vyas et al. 2024, arXiv 2409.11321) for one vector of parameters.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# A matrix with this many rows takes 64 MB, and its eigenvectors ten seconds of one core.
MAX_PARAMETERS = 4096

BETAS = (0.9, 0.999)  # decay of the first and of the second moment
MATRIX_BETA = 0.99  # decay of the matrix


class FullMatrixAdam(torch.optim.Optimizer):
    """Rotate the gradient into the eigenbasis of E[g g^T], let Adam step there, rotate back.

    The matrix is a running mean over about a hundred steps, so that the basis follows the
    parameters. Every ``refresh_every`` steps (the first time after half as many) the basis becomes
    the matrix's eigenvectors, and Adam's second moments become its eigenvalues. Before that, this
    is Adam.

    Args:
        parameters: tensors of one dtype on one device, together at most 4,096 numbers.
        lr: learning rate, as Adam's.
        eps: added to the square root of the second moment.
        refresh_every: steps between updates of the basis.

    Raises:
        ValueError: if there is no parameter or too many, or a value is out of range.

    Example:
        >>> x = nn.Parameter(torch.tensor([3.0, -2.0]))
        >>> optimiser = FullMatrixAdam([x], lr=0.1, refresh_every=5)
        >>> for _ in range(200):
        ...     optimiser.zero_grad()
        ...     loss = (x[0] + x[1]) ** 2 + 1e-4 * (x[0] - x[1]) ** 2  # along no axis
        ...     loss.backward()
        ...     optimiser.step()
        >>> loss.item() < 1e-4
        True
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        eps: float = 1e-8,
        refresh_every: int = 50,
    ):
        for name, value in (("lr", lr), ("eps", eps)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if refresh_every < 1:
            raise ValueError(f"refresh_every must be at least 1, got {refresh_every}")
        parameters = [p for p in parameters if p.requires_grad]
        n_parameters = sum(p.numel() for p in parameters)
        if not 1 <= n_parameters <= MAX_PARAMETERS:
            raise ValueError(
                f"parameters must hold between 1 and {MAX_PARAMETERS} trainable numbers, "
                f"got {n_parameters}"
            )
        super().__init__(parameters, {"lr": lr})
        self.eps, self.refresh_every = eps, refresh_every

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse any group after the first: all parameters are one vector.

        Raises:
            ValueError: after construction.
        """
        if self.param_groups:
            raise ValueError("parameters must all be given at construction, got another group")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter once, by its ``.grad``."""
        parameters, lr = self.param_groups[0]["params"], self.param_groups[0]["lr"]
        gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        gradient = torch.cat([g.flatten() for g in gradients])
        # one state for all, kept under the first parameter, where state_dict() finds it
        state = self.state[parameters[0]]
        if not state:
            state.update(self._start(gradient))
        beta1, beta2 = BETAS
        n_steps = int(state["n_steps"].add_(1))
        state["recent"][int(state["n_recent"])] = gradient
        state["n_recent"] += 1
        if n_steps % self.refresh_every == 0 or n_steps == (self.refresh_every + 1) // 2:
            self._renew_basis(state, n_steps)
        rotated = state["basis"].T @ gradient
        state["first_moment"].lerp_(rotated, 1 - beta1)
        state["second_moment"].lerp_(rotated.square(), 1 - beta2)
        mean = state["first_moment"] / (1 - beta1**n_steps)
        deviation = (state["second_moment"] / (1 - beta2**n_steps)).sqrt()
        move = state["basis"] @ (mean / (deviation + self.eps))
        sizes = [p.numel() for p in parameters]
        for parameter, part in zip(parameters, move.split(sizes), strict=True):
            parameter.sub_(part.view_as(parameter), alpha=lr)

    def _start(self, gradient: Tensor) -> dict[str, Tensor]:
        n = len(gradient)
        return {
            "n_steps": torch.tensor(0),
            "n_recent": torch.tensor(0),  # gradients that the matrix does not have yet
            "recent": gradient.new_zeros(self.refresh_every, n),
            "matrix": gradient.new_zeros(n, n),
            "basis": torch.eye(n, dtype=gradient.dtype, device=gradient.device),
            "first_moment": gradient.new_zeros(n),
            "second_moment": gradient.new_zeros(n),
        }

    def _renew_basis(self, state: dict[str, Tensor], n_steps: int) -> None:
        """Bring the matrix up to date, then express what Adam remembers in its new eigenbasis."""
        n_recent, matrix, beta = int(state["n_recent"]), state["matrix"], MATRIX_BETA
        recent = state["recent"][:n_recent]
        ages = torch.arange(n_recent - 1, -1, -1, dtype=recent.dtype, device=recent.device)
        weighted = recent * ((1 - beta) * beta**ages)[:, None]
        matrix.mul_(beta**n_recent).addmm_(weighted.T, recent)
        state["n_recent"].zero_()
        eigenvalues, basis = torch.linalg.eigh(matrix / (1 - beta**n_steps))
        state["first_moment"] = basis.T @ (state["basis"] @ state["first_moment"])
        # as if Adam had seen these eigenvalues all along
        state["second_moment"] = eigenvalues.clamp(min=0) * (1 - BETAS[1] ** n_steps)
        state["basis"] = basis
