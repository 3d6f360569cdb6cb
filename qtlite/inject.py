"""Weight injection: run any ``nn.Module`` with weights that were computed rather than stored.

The weights stay in the autograd graph, as with ``torch.func.functional_call``: one backward pass
goes from the loss through the target network to whatever made them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from math import prod

import torch
from torch import Tensor, nn


def weight_shapes(module: nn.Module, names: Iterable[str] | None = None) -> dict[str, torch.Size]:
    """List the weights that make up theta (Eq. 1), in the order of ``named_parameters``.

    A tied weight is listed once, under its first name. Buffers (BatchNorm statistics) are none.

    Args:
        module: the target network.
        names: parameters to generate; all of them if left out.

    Raises:
        ValueError: if a name is not a parameter of ``module``, or there is nothing to generate.

    Example:
        >>> weight_shapes(nn.Linear(3, 2))
        {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])}
    """
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    if isinstance(names, str):
        raise ValueError(f"names must be a list of parameters' names, got the string {names!r}")
    if names is not None:
        names = list(names)
        if unknown := [name for name in names if name not in shapes]:
            raise ValueError(
                f"names must be parameters of the target (of a tied one the first name) "
                f"{list(shapes)}, got {unknown}"
            )
        shapes = {name: shape for name, shape in shapes.items() if name in names}
        if not names:
            raise ValueError("names must name at least one parameter of the target, got none")
    if not shapes:
        raise ValueError(
            f"target must have parameters to generate, got none in {type(module).__name__}"
        )
    return shapes


def count_weights(shapes: Mapping[str, torch.Size]) -> int:
    """M, the number of weights to generate.

    Example:
        >>> count_weights(weight_shapes(nn.Linear(3, 2)))
        8
    """
    return sum(map(prod, shapes.values()))


def split_weights(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Cut theta into the target's tensors.

    Args:
        flat: theta, shape (M,).
        shapes: what ``weight_shapes`` returned.

    Returns:
        Views of ``flat`` by parameter name.

    Raises:
        ValueError: if ``flat`` has not exactly M entries on one axis.

    Example:
        >>> split_weights(torch.arange(8.0), weight_shapes(nn.Linear(3, 2)))["bias"]
        tensor([6., 7.])
    """
    n_weights = count_weights(shapes)
    if flat.shape != (n_weights,):
        raise ValueError(f"flat must have shape ({n_weights},), got {tuple(flat.shape)}")
    pieces = flat.split([prod(shape) for shape in shapes.values()])
    return {
        name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def without_weights(module: nn.Module, names: Iterable[str]) -> nn.Module:
    """Copy the target with the named parameters turned into buffers that no checkpoint stores.

    The copy trains only what is left, yet ``call_with_weights`` finds every name in its place. All
    names of a tied weight are turned.

    Args:
        module: the target network, left as it is.
        names: parameters that will be generated.

    Example:
        >>> hollow = without_weights(nn.Linear(3, 2), ["weight"])
        >>> [name for name, _ in hollow.named_parameters()], list(hollow.state_dict())
        (['bias'], ['bias'])
    """
    module = copy.deepcopy(module)
    generated = {id(module.get_parameter(name)) for name in names}
    buffers: dict[int, Tensor] = {}  # so that tied names stay tied
    for owner in module.modules():
        for name, parameter in list(owner._parameters.items()):
            if id(parameter) in generated:
                buffer = buffers.setdefault(id(parameter), parameter.detach().clone())
                delattr(owner, name)
                owner.register_buffer(name, buffer, persistent=False)
    return module


def call_with_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *args: object, **kwargs: object
) -> object:
    """Run ``module(*args, **kwargs)`` with ``weights`` in place of its own tensors of those names.

    The module has its own tensors back afterwards: one thread at a time may call it. What
    ``torch.func.functional_call`` does, in a third of the time, which small targets notice.

    Args:
        module: the target network; where it has a tensor under several names, one of them will do.
        weights: by name, as from ``split_weights``; gradients flow back to them.

    Raises:
        ValueError: if a name is neither a parameter nor a buffer of ``module``, or two are the
            same one.

    Example:
        >>> weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
        >>> call_with_weights(nn.Linear(3, 2), weights, torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
    """
    places = [
        (f"{path}.{key}" if path else key, tensor, store, key)
        for path, owner in module.named_modules()
        for store in (owner._parameters, owner._buffers)
        for key, tensor in store.items()
        if tensor is not None
    ]
    given = {id(tensor): weights[name] for name, tensor, *_ in places if name in weights}
    if len(given) < len(weights):
        raise ValueError(
            f"weights must have names of the module's tensors, each of another one, "
            f"{[name for name, *_ in places]}, got {list(weights)}"
        )
    places = [(tensor, store, key) for _, tensor, store, key in places if id(tensor) in given]
    try:
        for tensor, store, key in places:
            store[key] = given[id(tensor)]
        return module(*args, **kwargs)
    finally:
        for tensor, store, key in places:
            store[key] = tensor


def with_weights(
    template: nn.Module, module: nn.Module, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Make an ordinary network: ``template`` with all values of ``module`` and ``weights``.

    Args:
        template: the target network as it was given, parameters and all; left as it is.
        module: its ``without_weights`` copy, whose remaining parameters and buffers are taken.
        weights: by name.

    Returns:
        A copy of ``template`` that shares no memory with the arguments.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> plain = with_weights(layer, without_weights(layer, ["weight"]),
        ...                      {"weight": torch.tensor([[2.0]])})
        >>> plain.weight.item(), type(plain.weight).__name__
        (2.0, 'Parameter')
    """
    plain = copy.deepcopy(template)
    values = {**dict(module.named_parameters()), **dict(module.named_buffers()), **weights}
    with torch.no_grad():
        for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
            tensor.data = values[name].detach().clone()
    for copied, original in zip(plain.modules(), module.modules(), strict=True):
        copied.training = original.training
    return plain
