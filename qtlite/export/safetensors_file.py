"""Safetensors: the tensors by name, and strings about them; the structure stays in the code."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qtlite.export.atomic import atomic_write
from qtlite.export.checks import (
    check_finite,
    check_module,
    check_tensors,
    prepare,
    reading,
    require,
)
from qtlite.export.seal import check_seal, seal_file


def save_safetensors(
    network: nn.Module,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network's tensors to a .safetensors file, read them again and compare every bit.

    Args:
        network: a plain classical network, as from ``QuantumTrain.to_classical``.
        path: where to write; missing folders are made.
        metadata: strings to keep in the file's header.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: if the network still generates its weights or has NaN in them, or metadata are
            no strings.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the network's tensors; it is not kept.

    Example:
        >>> import tempfile, torch
        >>> layer, again = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_safetensors(layer, Path(folder) / "layer.safetensors", {"by": "me"})
        ...     load_safetensors(again, path)
        {'by': 'me'}
        >>> torch.equal(layer.weight, again.weight)
        True
    """
    header = prepare(network, metadata, "safetensors")
    from safetensors.torch import save_model

    with atomic_write(path, overwrite) as unfinished:
        write_sealed(save_model, network, unfinished, header)
        again = copy.deepcopy(network)
        for tensor in again.state_dict().values():
            tensor.zero_()  # what the file lacks cannot pass for read
        load_safetensors(again, unfinished)
        check_tensors(network.state_dict(), again.state_dict())
    return Path(path)


def write_sealed(save: Callable[..., None], content: Any, path: Path, header: dict) -> None:
    """Write a .safetensors file with its names in order and its checksum.

    The library writes metadata in an order that differs from run to run; sorted, the same network
    gives the same file.

    Raises:
        OSError: if the file cannot be written, as on a full disk.
    """
    from safetensors import SafetensorError

    try:
        save(content, str(path), metadata=header)
    except SafetensorError as error:
        raise OSError(f"path must be writable, got {path}: {error}") from error
    written = path.read_bytes()
    size = 8 + int.from_bytes(written[:8], "little")
    names = json.loads(written[8:size])
    text = json.dumps(names, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + written[size:])
    seal_file(path)


def load_safetensors(network: nn.Module, path: str | os.PathLike) -> dict[str, str]:
    """Put a file's tensors into a network of the same structure.

    Args:
        network: changed in place.
        path: what ``save_safetensors`` wrote.

    Returns:
        The file's metadata.

    Raises:
        ValueError: if the file is damaged, has no checksum, has NaN or infinite weights, or its
            tensors are not the network's, or the network is no module.
        FileNotFoundError: if there is no such file.
    """
    metadata = read_metadata(path)
    from safetensors.torch import load_file, load_model

    check_module(network)
    parameters = {name for name, _ in network.named_parameters()}
    with reading(path, "hold the network's tensors"):
        tensors = load_file(path)
        check_finite(((name, tensors[name]) for name in parameters & tensors.keys()), "file")
        check_types(network, tensors)
        load_model(network, str(path))
    return metadata


def check_types(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise a ValueError if integers stand where the network has floats, or the other way round.

    PyTorch would convert them, and bytes that were floats would become other numbers.
    """
    for name, own in network.state_dict().items():
        found = tensors.get(name, own)
        if found.is_floating_point() != own.is_floating_point():
            raise ValueError(f"{name!r} must be {own.dtype}, got {found.dtype}")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Read a file's strings and compare its checksum.

    Raises:
        ValueError: if the file is damaged or has no checksum.
        FileNotFoundError: if there is no such file.
    """
    require("safetensors")
    from safetensors import safe_open

    with reading(path, "be a whole safetensors file"), safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    check_seal(path)
    return {name: text for name, text in metadata.items() if name != "seal"}
