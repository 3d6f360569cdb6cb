"""Second derivatives: where a caller asks for a graph of the gradients (``create_graph=True``).

Autograd cannot differentiate the engine's backward passes, so plain PyTorch computes them then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    gradients: Tensor | Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of a function of plain PyTorch, themselves differentiable.

    Args:
        function: of the inputs.
        inputs: some of which require a gradient.
        gradients: those of the function's outputs.

    Returns:
        For each input its gradient, or None where it requires none.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (slope,) = differentiable_gradients(lambda x: x**3, [x], torch.tensor(1.0))
        >>> slope.item(), torch.autograd.grad(slope, x)[0].item()
        (12.0, 12.0)
    """
    outputs = function(*inputs)
    wanted = [each for each in inputs if each.requires_grad]
    found = iter(
        torch.autograd.grad(outputs, wanted, gradients, create_graph=True, allow_unused=True)
    )
    return [next(found) if each.requires_grad else None for each in inputs]
