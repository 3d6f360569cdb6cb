"""What all exported files have in common: new, whole, and checked before they take their name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from qtlite.export.atomic import whole_file

TOLERANCE = 1e-4  # of outputs, absolute, between runtimes that add in different orders


@contextmanager
def new_file(path: str | os.PathLike, overwrite: bool) -> Iterator[Path]:
    """``whole_file`` that replaces an existing file only if told.

    Raises:
        FileExistsError: if the file exists and ``overwrite`` is off.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"path must be new unless overwrite is on, got {path}")
    with whole_file(path) as unfinished:
        yield unfinished


def require(*packages: str) -> None:
    """Say how to get packages that only some formats need.

    Raises:
        ImportError: if one is missing.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"{package} must be installed for this: pip install 'qtlite[export]'"
            ) from error


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """Refuse what some formats could not hold.

    Raises:
        ValueError: if a key or a value is no string.

    Example:
        >>> check_metadata({"accuracy": 0.5})
        Traceback (most recent call last):
        ValueError: metadata must be strings, got {'accuracy': 0.5}
    """
    if not all(isinstance(text, str) for pair in (metadata or {}).items() for text in pair):
        raise ValueError(f"metadata must be strings, got {dict(metadata)}")


def check_outputs(expected: Tensor, found: Tensor) -> None:
    """Compare what a file's network gives with what the network gave.

    Raises:
        RuntimeError: if they differ by more than ``TOLERANCE``; the file is not kept.
    """
    if expected.shape != found.shape:
        raise RuntimeError(
            f"the written file must give outputs of shape {tuple(expected.shape)}, "
            f"got {tuple(found.shape)}"
        )
    difference = (expected - found).abs().max().item()
    if not difference <= TOLERANCE:  # so that NaN fails, too
        raise RuntimeError(
            f"the written file must give the network's outputs within {TOLERANCE}, "
            f"got a difference of {difference:.1e}"
        )


@torch.no_grad()
def one_output(network: torch.nn.Module, example: Tensor) -> Tensor:
    """Run the network on examples, and see that what it returns can go into a file.

    Raises:
        ValueError: if there are fewer than 2 examples (1 would be taken for a fixed size), or the
            network returns anything but one tensor with an entry for each.
    """
    if len(example) < 2:
        raise ValueError(f"example must hold at least 2 inputs, got {len(example)}")
    output = network(example)
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(example):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            "network must return one tensor with the batch as first axis, "
            f"got {found} for {len(example)} inputs"
        )
    return output
