"""JSON: layers in order, with their numbers in base64. For the reader's browser.

A file is one object::

    {"format": "qtlite-network", "version": 1, "metadata": {...},
     "mean": 0.1307, "std": 0.3081,            # of pixels in [0, 1]; absent without preprocessing
     "layers": [{"type": "conv2d", "padding": 0, "weight": TENSOR, "bias": TENSOR},
                {"type": "max_pool2d", "size": 2}, {"type": "relu"}, {"type": "flatten"},
                {"type": "linear", "weight": TENSOR, "bias": TENSOR}, ...]}

where TENSOR is {"shape": [8, 1, 5, 5], "data": "..."}, little-endian float32 in row-major order.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qtlite.export.from_pixels import FromPixels
from qtlite.export.new_file import check_metadata, new_file
from qtlite.export.seal import OPEN_SEAL, check_seal, seal_file
from qtlite.quantum_train import check_plain

FORMAT, VERSION = "qtlite-network", 1


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
        path: where to write.
        metadata: strings to keep in the file.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

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
    check_plain(network)
    check_metadata(metadata)
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "seal": OPEN_SEAL}
    content["metadata"] = dict(metadata or {})
    layers = network
    if isinstance(network, FromPixels):
        content |= {"mean": network.mean, "std": network.std}
        layers = network.network
    if not isinstance(layers, nn.Sequential):
        raise ValueError(
            f"network must be an nn.Sequential for JSON, got {type(layers).__name__}: "
            "use ONNX or torch.export"
        )
    content["layers"] = [_write_layer(layer) for layer in layers]
    with new_file(path, overwrite) as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        seal_file(unfinished)
        again, _ = load_json(unfinished)
        before = [tensor.cpu() for tensor in network.state_dict().values()]
        after = list(again.state_dict().values())
        if len(before) != len(after) or not all(map(torch.equal, before, after)):
            raise RuntimeError("the written file must give the network's tensors, got others")
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
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        network: nn.Module = nn.Sequential(*map(_read_layer, content["layers"]))
        if "mean" in content:
            network = FromPixels(network, content["mean"], content["std"])
        return network.eval(), content["metadata"]
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"path must be a network that qtlite wrote as JSON, got {path}: {error}"
        ) from error


def _write_layer(layer: nn.Module) -> dict[str, Any]:
    match layer:
        case nn.Conv2d() if _is_simple(layer):
            return {"type": "conv2d", "padding": layer.padding[0], **_write_tensors(layer)}
        case nn.Linear() if layer.bias is not None:
            return {"type": "linear", **_write_tensors(layer)}
        case nn.MaxPool2d(kernel_size=int(size), stride=stride, padding=0, dilation=1):
            if stride == size and not layer.ceil_mode:
                return {"type": "max_pool2d", "size": size}
        case nn.ReLU():
            return {"type": "relu"}
        case nn.Flatten(start_dim=1, end_dim=-1):
            return {"type": "flatten"}
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


def _write_tensors(layer: nn.Module) -> dict[str, dict[str, Any]]:
    return {name: _write_tensor(tensor) for name, tensor in layer.named_parameters()}


def _write_tensor(tensor: Tensor) -> dict[str, Any]:
    if tensor.dtype != torch.float32:
        raise ValueError(f"network must be float32 for JSON, got {tensor.dtype}")
    data = tensor.detach().cpu().numpy().astype("<f4").tobytes()
    return {"shape": list(tensor.shape), "data": base64.b64encode(data).decode()}


def _read_layer(layer: dict[str, Any]) -> nn.Module:
    match layer["type"]:
        case "conv2d":
            n_out, n_in, *size = layer["weight"]["shape"]
            made = nn.utils.skip_init(nn.Conv2d, n_in, n_out, tuple(size), padding=layer["padding"])
        case "linear":
            n_out, n_in = layer["weight"]["shape"]
            made = nn.utils.skip_init(nn.Linear, n_in, n_out)
        case "max_pool2d":
            return nn.MaxPool2d(layer["size"])
        case "relu":
            return nn.ReLU()
        case "flatten":
            return nn.Flatten()
        case unknown:
            raise ValueError(f"a layer of type {unknown!r}")
    made.load_state_dict({name: _read_tensor(layer[name]) for name in ("weight", "bias")})
    return made


def _read_tensor(tensor: dict[str, Any]) -> Tensor:
    data = base64.b64decode(tensor["data"], validate=True)
    if len(data) != 4 * prod(tensor["shape"]):
        raise ValueError(f"{len(data)} bytes for a tensor of shape {tensor['shape']}")
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32).reshape(tensor["shape"]))
