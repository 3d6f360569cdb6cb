"""Weight injection: run any ``nn.Module`` with weights that were computed rather than stored.

The weights stay in the autograd graph: one backward pass goes from the loss through the target
network to whatever made them. ``torch.func.functional_call`` needs a target that stores parameters
of its own; ``Injection`` keeps none, so that none can be trained, counted or used by mistake.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from math import prod
from threading import RLock

import torch
from torch import Tensor, nn


def weight_shapes(module: nn.Module, names: Iterable[str] | None = None) -> dict[str, torch.Size]:
    """List the weights that make up theta (Eq. 1), in the order of ``named_parameters``.

    A tied weight is listed once, under its first name. Buffers (BatchNorm statistics) are left out.

    Args:
        module: the target network.
        names: parameters to generate; all of them if left out.

    Raises:
        ValueError: if ``names`` are no parameters, or of a kind that cannot be generated.

    Example:
        >>> weight_shapes(nn.Linear(3, 2))
        {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])}
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"target module must be an nn.Module, not scripted, got {module!r:.99}")
    parameters = dict(module.named_parameters())
    wanted = set(parameters if names is None else names)
    chosen = {name: parameters[name] for name in parameters if name in wanted}
    if not chosen or len(chosen) < len(wanted) or isinstance(names, str):
        raise ValueError(f"names must list some of the target's {list(parameters)}, got {names!r}")
    kinds = {_kind(parameter, name) for name, parameter in chosen.items()}
    if len(kinds) > 1:
        raise ValueError(f"target must have one kind of parameters, got {sorted(kinds)}: {CURE}")
    for layer in (layer for layer in module.modules() if getattr(layer, "sparse", False)):
        if any(getattr(layer, "weight", None) is p for p in chosen.values()):
            raise ValueError(f"target must have dense gradients, got {layer}: set sparse=False")
    return {name: parameter.shape for name, parameter in chosen.items()}


CURE = "convert the target, run a lazy one once, or leave the parameter out of names"


def _kind(parameter: nn.Parameter, name: str) -> str:
    lazy = isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta
    kind = "no values" if lazy else f"{parameter.dtype}, {parameter.layout}, {parameter.device}"
    if lazy or parameter.layout != torch.strided or not parameter.is_floating_point():
        raise ValueError(f"target must have dense float parameters, got {name} ({kind}): {CURE}")
    return kind


def split_weights(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Cut theta, shape (M,), into views by parameter name.

    Raises:
        ValueError: if ``flat`` has not exactly M entries on one axis.

    Example:
        >>> split_weights(torch.arange(8.0), weight_shapes(nn.Linear(3, 2)))["bias"]
        tensor([6., 7.])
    """
    sizes = [prod(shape) for shape in shapes.values()]
    if flat.shape != (sum(sizes),):
        raise ValueError(f"flat must have shape ({sum(sizes)},), got {tuple(flat.shape)}")
    pieces = zip(shapes.items(), flat.split(sizes), strict=True)
    return {name: piece.view(shape) for (name, shape), piece in pieces}


_one_thread_at_a_time = RLock()


def not_compiled(function: Callable) -> Callable:
    """Keep torch.compile out of a function: it compiles targets, not what generates weights."""

    @wraps(function)
    def run(*arguments: object) -> object:
        if torch.compiler.is_compiling():  # always disabled, it would take a second to import
            return torch.compiler.disable(function)(*arguments)
        return function(*arguments)

    return run


class Ungenerated:
    """What stands in a generated weight's place while there is none: any use is an error."""

    RULE = "target must be used through its model or `with model.generated() as target:`"

    @classmethod
    def __torch_function__(cls, *arguments: object) -> None:
        raise ValueError(f"{cls.RULE}, and backward() through checkpointed activations inside it")

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"{self.RULE}, got the {name!r} of a weight outside it")


def _entries(module: nn.Module) -> Iterator[tuple[nn.Module, tuple, object, object]]:
    """All that a network's modules keep: owner, keys in its ``__dict__``, container, entry."""
    left = [(owner, (), vars(owner)) for owner in module.modules()]
    for owner, keys, container in left:  # which grows by the containers that are found
        inside = container.items() if isinstance(container, dict) else enumerate(container)
        for key, entry in inside:
            yield owner, (*keys, key), container, entry
            if isinstance(entry, (dict, list, tuple)) and len(keys) < 8:
                left.append((owner, (*keys, key), entry))


class Injection:
    """A copy of the target that has the named parameters only while weights are put in.

    Between calls an ``Ungenerated`` stands in each one's place; during a call the weights are among
    the target's ``parameters()``. All names of a tied weight are replaced, and parameters that a
    module also keeps in a plain list or dict. One thread at a time has weights in its targets.

    Args:
        target: the network, left as it is.
        names: parameters that will be generated.

    Raises:
        ValueError: if the target cannot be copied, or keeps such a parameter in a tuple.

    Example:
        >>> inject = Injection(nn.Linear(3, 2), ["weight", "bias"])
        >>> with inject({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}) as layer:
        ...     layer(torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
        >>> list(layer.parameters()), list(layer.state_dict())
        ([], [])
    """

    def __init__(self, target: nn.Module, names: Iterable[str]):
        self.module = copy_target(target)
        generated = {id(self.module.get_parameter(name)): name for name in names}
        self._places: list[tuple[str, nn.Module, tuple]] = []
        for owner, keys, container, entry in list(_entries(self.module)):
            if (name := generated.get(id(entry))) is None:
                continue
            if isinstance(container, tuple):
                raise ValueError(f"target must keep parameters in a ParameterList, got {keys[0]!r}")
            self._places.append((name, owner, keys))
            if keys[0] == "_parameters":  # None there: what is in __dict__ itself is found first
                vars(owner)[keys[1]] = entry
                self._places.append((name, owner, keys[1:]))
        idle = [None if keys[0] == "_parameters" else Ungenerated() for *_, keys in self._places]
        _exchange(self._places, idle)

    @contextmanager
    def __call__(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """Put a tensor in for each of ``names``, for a with block that is given the target."""
        with _one_thread_at_a_time:
            before = _exchange(self._places, [weights[name] for name, *_ in self._places])
            try:
                yield self.module
            finally:  # backwards, as two modules may share a list
                _exchange(self._places[::-1], before[::-1])


@not_compiled
def _exchange(places: list, values: list) -> list:
    before = []
    for (_, owner, (*keys, last)), value in zip(places, values, strict=True):
        container = vars(owner)
        for key in keys:
            container = container[key]
        before.append(container[last])
        container[last] = value
    return before


def copy_target(target: nn.Module) -> nn.Module:
    """Copy a target network, or say why PyTorch cannot."""
    try:
        return copy.deepcopy(target)
    except RuntimeError as error:
        cure = "use nn.utils.parametrizations for weight_norm and spectral_norm, prune.remove"
        raise ValueError(f"target must be deep-copied, got {error!s:.60}: {cure}") from error
