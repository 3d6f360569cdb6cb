"""Write a trained classical network to a file that holds numbers only, and read it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from qtlite.whole_file import whole_file


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
    from safetensors.torch import save_model

    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"path must be new unless overwrite is on, got {path}")
    with whole_file(path) as unfinished:
        save_model(network, str(unfinished), metadata=dict(metadata or {}))
    return path


def load_safetensors(network: nn.Module, path: str | os.PathLike) -> dict[str, str]:
    """Put a file's tensors into a network of the same structure.

    Args:
        network: changed in place.
        path: what ``save_safetensors`` wrote.

    Returns:
        The file's metadata.

    Raises:
        ValueError: if the file is damaged or its tensors are not the network's.
        FileNotFoundError: if there is no such file.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_model

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        load_model(network, str(path))
    except SafetensorError as error:
        raise ValueError(f"path must be a whole safetensors file, got {path}: {error}") from error
    except RuntimeError as error:  # names or shapes differ
        raise ValueError(f"path must hold the network's tensors, got {path}: {error}") from error
    return metadata
