"""Safetensors: the tensors by name, and strings about them; the structure stays in the code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from qtlite.export.new_file import check_metadata, new_file, require
from qtlite.export.seal import OPEN_SEAL, check_seal, seal_file
from qtlite.quantum_train import check_plain


def save_safetensors(
    network: nn.Module,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network's tensors to a .safetensors file, whole or not at all.

    Args:
        network: a plain classical network, as from ``QuantumTrain.to_classical``.
        path: where to write.
        metadata: strings to keep in the file's header.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the network still generates its weights, or metadata are no strings.
        FileExistsError: if the file exists and ``overwrite`` is off.

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
    check_plain(network)
    check_metadata(metadata)
    require("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    with new_file(path, overwrite) as unfinished:
        try:
            save_model(network, str(unfinished), metadata={**(metadata or {}), "seal": OPEN_SEAL})
        except SafetensorError as error:  # such as a full disk
            raise OSError(f"path must be writable, got {path}: {error}") from error
        sort_header(unfinished)
        seal_file(unfinished)
    return Path(path)


def sort_header(path: Path) -> None:
    """Put the names in a .safetensors file's header in order: the same network, the same file.

    The library writes metadata in an order that differs from run to run.
    """
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def load_safetensors(network: nn.Module, path: str | os.PathLike) -> dict[str, str]:
    """Put a file's tensors into a network of the same structure.

    Args:
        network: changed in place.
        path: what ``save_safetensors`` wrote, or another program; only the former has a checksum.

    Returns:
        The file's metadata.

    Raises:
        ValueError: if the file is damaged or its tensors are not the network's.
        FileNotFoundError: if there is no such file.
    """
    metadata = read_metadata(path)
    from safetensors.torch import load_model

    try:
        load_model(network, str(path))
    except RuntimeError as error:  # names or shapes differ
        raise ValueError(f"path must hold the network's tensors, got {path}: {error}") from error
    return metadata


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Read a file's strings, once its checksum (if it has one) is seen to be right.

    Raises:
        ValueError: if the file is damaged.
        FileNotFoundError: if there is no such file.
    """
    require("safetensors")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"path must be a whole safetensors file, got {path}: {error}") from error
    if metadata.pop("seal", None):
        check_seal(path)
    return metadata
