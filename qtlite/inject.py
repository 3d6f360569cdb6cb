"""Weight injection: run any ``nn.Module`` with weights that were computed rather than stored.

The weights stay in the autograd graph, as with ``torch.func.functional_call``: one backward pass
goes from the loss through the target network to whatever made them. ``functional_call`` needs a
target that stores parameters of its own; ``Injection`` keeps none, so that none can be trained,
counted or used by mistake.
"""

from __future__ import annotations

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
        ValueError: if a name is not a parameter of ``module``, there is nothing to generate, or a
            parameter's kind cannot be generated; the message says what to do.

    Example:
        >>> weight_shapes(nn.Linear(3, 2))
        {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])}
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"target module must be an nn.Module, not scripted, got {module!r:.99}")
    parameters = dict(module.named_parameters())
    if isinstance(names, str):
        raise ValueError(f"names must be a list of parameters' names, got the string {names!r}")
    if names is not None:
        names = list(names)
        if unknown := [name for name in names if name not in parameters]:
            raise ValueError(
                f"names must be parameters of the target (of a tied one the first name) "
                f"{list(parameters)}, got {unknown}"
            )
        parameters = {name: p for name, p in parameters.items() if name in names}
        if not names:
            raise ValueError("names must name at least one parameter of the target, got none")
    if not parameters:
        raise ValueError(
            f"target must have parameters to generate, got none in {type(module).__name__}"
        )
    _check_parameters(parameters)
    generated = {id(parameter) for parameter in parameters.values()}
    for layer in module.modules():
        if getattr(layer, "sparse", False) and id(getattr(layer, "weight", None)) in generated:
            raise ValueError(
                f"target must have layers with sparse=False, got {layer}: generated weights have "
                "dense gradients"
            )
    return {name: parameter.shape for name, parameter in parameters.items()}


def _check_parameters(parameters: Mapping[str, nn.Parameter]) -> None:
    kinds = set()
    for name, parameter in parameters.items():
        lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
        if lazy or parameter.is_meta:
            raise ValueError(
                f"target must have values in its parameters, got none in {name}: run a lazy target "
                "once on an example, call to_empty(device=...) on one on the meta device"
            )
        if parameter.layout != torch.strided or not parameter.is_floating_point():
            raise ValueError(
                f"target must have dense float parameters, got {name} of {parameter.dtype} and "
                f"{parameter.layout}: leave it out of names"
            )
        kinds.add(f"{parameter.dtype} on {parameter.device}")
    if len(kinds) > 1:
        raise ValueError(
            f"target must have parameters of one kind, got {sorted(kinds)}: convert the target, or "
            "leave some out of names"
        )


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

    MESSAGE = (
        "target must be used through its model, got a generated weight outside a call: for another "
        "method of the target, and for backward() with checkpointed activations, use "
        "`with model.generated() as target:`"
    )

    @classmethod
    def __torch_function__(cls, *arguments: object) -> None:
        raise ValueError(cls.MESSAGE)

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"{self.MESSAGE} (asked for {name!r})")


class Injection:
    """A copy of the target that has the named parameters only while weights are put in.

    Between calls an ``Ungenerated`` stands in each one's place, so that nothing trains, stores or
    uses it by mistake. During a call the weights are among the target's ``parameters()``. All
    names of a tied weight are replaced, and so are parameters that a module also keeps in a plain
    list or dict. One thread at a time has weights in its targets; others wait.

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
        self._places: list[tuple[str, nn.Module, str, object]] = []
        for owner in self.module.modules():
            for key, value in [*owner._parameters.items(), *owner.__dict__.items()]:
                inside = value.items() if isinstance(value, dict) else ()
                inside = enumerate(value) if isinstance(value, (list, tuple)) else inside
                if key == "_parameters":
                    inside = ()
                for index, entry in [(None, value), *inside]:
                    if id(entry) not in generated:
                        continue
                    if isinstance(value, tuple):
                        raise ValueError(
                            f"target must keep parameters in a ParameterList, got {key!r} of "
                            f"{type(owner).__name__}, a tuple"
                        )
                    self._places.append((generated[id(entry)], owner, key, index))
        for _, *place in self._places:
            _put(*place, Ungenerated())

    @contextmanager
    def __call__(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """Put weights in for a with block, which is given the target.

        Args:
            weights: a tensor for each of ``names``; gradients flow back to them.

        Raises:
            ValueError: if ``backward()`` is called there more than once, as it is by activations
                checkpointed with ``use_reentrant=True``.
        """
        given = [weights[name] for name, *_ in self._places]
        with _one_thread_at_a_time:
            before = _exchange(self._places, given)
            try:
                yield self.module
            except RuntimeError as error:
                if "backward through the graph a second time" not in str(error):
                    raise
                raise ValueError(
                    "target must be gone through once by backward(), since its weights are "
                    "generated once: call backward() once in a with block, and checkpoint "
                    "activations with use_reentrant=False"
                ) from error
            finally:
                # backwards, as two modules may share a list
                _exchange(self._places[::-1], before[::-1])


@not_compiled
def _exchange(places: list, values: list) -> list:
    return [_put(*place, value) for (_, *place), value in zip(places, values, strict=True)]


def _put(owner: nn.Module, key: str, index: object, value: object) -> object:
    """Set a parameter, or the entry of a list or dict, and return what was there."""
    if index is not None:
        container = owner.__dict__[key]
        before, container[index] = container[index], value
        return before
    before = owner.__dict__.pop(key, owner._parameters.get(key))
    if key not in owner._parameters or isinstance(value, Ungenerated):
        owner.__dict__[key] = value  # found before a parameter of that name, which is None
        value = None
    if key in owner._parameters:
        owner._parameters[key] = value
    return before


def copy_target(target: nn.Module) -> nn.Module:
    """Copy a target network.

    Raises:
        ValueError: if PyTorch cannot copy it, as after the old kinds of pruning and weight norm.
    """
    try:
        return copy.deepcopy(target)
    except RuntimeError as error:
        raise ValueError(
            f"target must be a module that copy.deepcopy copies, got {type(target).__name__} "
            f"({str(error).splitlines()[0]}): use torch.nn.utils.parametrizations in place of "
            "weight_norm and spectral_norm, and prune.remove after pruning"
        ) from error


def with_weights(
    template: nn.Module, module: nn.Module, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Make an ordinary network: ``template`` with all values of ``module`` and ``weights``.

    Args:
        template: the target network as it was given, parameters and all; left as it is.
        module: the ``Injection``'s copy, whose remaining parameters and buffers are taken.
        weights: by name.

    Returns:
        A copy of ``template`` that shares no memory with the arguments.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> injection = Injection(layer, ["weight"])
        >>> plain = with_weights(layer, injection.module, {"weight": torch.tensor([[2.0]])})
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
