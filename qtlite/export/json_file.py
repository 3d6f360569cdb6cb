"""JSON: layers in order, with their numbers in base64. For the reader's browser.

A file is one object::

    {"format": "qtlite-network", "version": 1, "metadata": {...},
     "mean": 0.1307, "std": 0.3081,            # of pixels in [0, 1]; absent without preprocessing
     "layers": [{"type": "conv2d", "padding": 0, "weight": TENSOR, "bias": TENSOR},
                {"type": "max_pool2d", "size": 2}, {"type": "relu"}, {"type": "flatten"},
                {"type": "linear", "weight": TENSOR, "bias": TENSOR}, ...]}

where TENSOR is {"shape": [8, 1, 5, 5], "data": "..."}, little-endian float32 in row-major order.
"""

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from qtlite.export.atomic import atomic_write
from qtlite.export.checks import check_cost, check_finite, check_tensors, prepare, reading
from qtlite.export.from_pixels import FromPixels
from qtlite.export.schema import read_json
from qtlite.export.seal import check_seal, seal_file

SIDE = 64  # of the largest images for which ``load_json`` limits a network's memory and time


class _Tensor(Struct):
    shape: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=4)]
    data: bytes  # base64 in the file


class _Linear(Struct, tag="linear"):
    weight: _Tensor
    bias: _Tensor


class _Conv2d(_Linear, tag="conv2d"):
    padding: Annotated[int, Meta(ge=0, le=10**6)]


class _MaxPool2d(Struct, tag="max_pool2d"):
    size: Annotated[int, Meta(ge=1, le=10**6)]


class _ReLU(Struct, tag="relu"): ...


class _Flatten(Struct, tag="flatten"): ...


_Layer = _Linear | _Conv2d | _MaxPool2d | _ReLU | _Flatten


class _Network(Struct, omit_defaults=True):
    format: Literal["qtlite-network"]
    version: Literal[1]
    seal: str
    metadata: dict[str, str]
    layers: Annotated[list[_Layer], Meta(max_length=1000)]
    mean: float | None = None
    std: float | None = None


def save_json(
    network: nn.Module,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a sequence of simple layers as JSON, read it again and compare every number.

    Args:
        network: an ``nn.Sequential`` of Conv2d, MaxPool2d, ReLU, Flatten and Linear, or
            ``FromPixels`` of one. Convolutions with stride 1 and as much padding on each side,
            pools with their size as stride.
        path, metadata, overwrite: as for ``save_safetensors``.

    Raises:
        ValueError: if the network has anything else in it.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the network's tensors; it is not kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_json(nn.Sequential(nn.Linear(3, 2)), Path(folder) / "a.json")
        ...     load_json(path)[0]
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
        )
    """
    header = prepare(network, metadata)
    layers, mean, std = network, None, None
    if isinstance(network, FromPixels):
        layers, mean, std = network.network, network.mean, network.std
    if not isinstance(layers, nn.Sequential):
        raise ValueError(
            f"network must be an nn.Sequential for JSON, got {type(layers).__name__}: "
            "use ONNX or torch.export"
        )
    written, seal = [_write_layer(layer) for layer in layers], header.pop("seal")
    content = _Network("qtlite-network", 1, seal, header, written, mean, std)
    with atomic_write(path, overwrite) as unfinished:
        unfinished.write_bytes(msgspec.json.encode(content))
        seal_file(unfinished)
        check_tensors(network.state_dict(), load_json(unfinished)[0].state_dict())
    return Path(path)


def load_json(path: str | os.PathLike) -> tuple[nn.Module, dict[str, str]]:
    """Read what ``save_json`` wrote.

    Returns:
        The network, in evaluation mode, and the file's metadata.

    Raises:
        ValueError: if the file is damaged or not one of qtlite's.
        FileNotFoundError: if there is no such file.
    """
    check_seal(path)
    what = "a network that qtlite wrote as JSON"
    content = read_json(path, _Network, what)
    with reading(path, f"hold {what}"):
        _check_cost(content.layers)
        network: nn.Module = nn.Sequential(*map(_read_layer, content.layers))
        check_finite(network.named_parameters(), "file")
        if content.mean is not None:
            network = FromPixels(network, content.mean, content.std)
    return network.eval(), content.metadata


def _write_layer(layer: nn.Module) -> _Layer:
    match layer:
        case nn.Conv2d() if _is_simple(layer):
            return _Conv2d(*map(_write_tensor, layer.parameters()), layer.padding[0])
        case nn.Linear() if layer.bias is not None:
            return _Linear(*map(_write_tensor, layer.parameters()))
        case nn.MaxPool2d(kernel_size=int(size), stride=stride, padding=0, dilation=1):
            if stride == size and not layer.ceil_mode:
                return _MaxPool2d(size)
        case nn.ReLU():
            return _ReLU()
        case nn.Flatten(start_dim=1, end_dim=-1):
            return _Flatten()
    raise ValueError(
        "network must hold only Conv2d, MaxPool2d, ReLU, Flatten and Linear for JSON, in their "
        f"simple forms, got {layer}: use ONNX or torch.export"
    )


def _is_simple(layer: nn.Conv2d) -> bool:
    return (
        layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is not None
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and layer.padding[0] == layer.padding[1]
    )


def _write_tensor(tensor: Tensor) -> _Tensor:
    if tensor.dtype != torch.float32:
        raise ValueError(f"network must be float32 for JSON, got {tensor.dtype}")
    return _Tensor(list(tensor.shape), tensor.numpy(force=True).astype("<f4").tobytes())


def _check_cost(layers: list[_Layer]) -> None:
    """Limit what layers can make of an image of ``SIDE`` x ``SIDE`` pixels."""
    side, rows, n_numbers, n_products = SIDE, 1, 0, 0
    for layer in layers:
        rows = 1 if isinstance(layer, _Flatten) else rows  # a linear layer runs once a row
        if isinstance(layer, _Linear):
            runs = rows
            if isinstance(layer, _Conv2d):
                side += 2 * layer.padding
                runs, rows = side**2, side * prod(layer.bias.shape)
            n_numbers += prod(layer.bias.shape) * runs
            n_products += prod(layer.weight.shape) * runs
        check_cost(n_numbers, n_products)


def _read_layer(layer: _Layer) -> nn.Module:
    match layer:
        case _MaxPool2d(size=size):
            return nn.MaxPool2d(size)
        case _ReLU():
            return nn.ReLU()
        case _Flatten():
            return nn.Flatten()
    weight, bias = _read_tensor(layer.weight), _read_tensor(layer.bias)
    n_out, n_in, *size = weight.shape
    if isinstance(layer, _Conv2d):
        made = nn.utils.skip_init(nn.Conv2d, n_in, n_out, tuple(size), padding=layer.padding)
    else:
        made = nn.utils.skip_init(nn.Linear, n_in, n_out)
    made.load_state_dict({"weight": weight, "bias": bias})
    return made


def _read_tensor(tensor: _Tensor) -> Tensor:
    if len(tensor.data) != 4 * prod(tensor.shape):
        raise ValueError(f"{len(tensor.data)} bytes for a tensor of shape {tensor.shape}")
    numbers = np.frombuffer(tensor.data, "<f4").astype(np.float32)
    return torch.from_numpy(numbers.reshape(tensor.shape))
