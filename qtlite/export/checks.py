"""What all formats share: checks before writing and after reading, one-line errors, limits."""

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qtlite.export.schema import in_one_line
from qtlite.export.seal import OPEN_SEAL
from qtlite.quantum_train import GeneratedNetwork

TOLERANCE = 1e-4  # relative to the largest output: runtimes add in different orders
ROUNDING = 1e-6  # absolute: what rounding leaves of outputs that cancel to almost nothing

# A network from a file may compute this much for one image; ResNet-18 for CIFAR-10 needs a tenth.
MAX_NUMBERS = 2**24  # outputs of all its layers
MAX_PRODUCTS = 2**34


def prepare(
    network: nn.Module, metadata: Mapping[str, str] | None, *packages: str, plain: bool = True
) -> dict[str, str]:
    """Check what is to be written and return the strings for the file's header.

    Args:
        network: to be written.
        metadata: strings about it.
        packages: that the format needs.
        plain: whether the format has no place for what generates weights.

    Raises:
        ValueError: if the network is no module, still generates its weights, or has NaN or
            infinite weights, or metadata are no strings.
        ImportError: if a package is missing.

    Example:
        >>> prepare(nn.Linear(3, 2), {"accuracy": 0.5})
        Traceback (most recent call last):
        ValueError: metadata must be strings, got {'accuracy': 0.5}
    """
    require(*packages)
    check_module(network, plain)
    check_finite(network.named_parameters(), "network")
    if not all(isinstance(text, str) for pair in (metadata or {}).items() for text in pair):
        raise ValueError(f"metadata must be strings, got {dict(metadata)}")
    return {**(metadata or {}), "seal": OPEN_SEAL}


def require(*packages: str) -> None:
    """Raise an ImportError that says how to get a package that only some formats need."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"{package} must be installed for this: pip install 'qtlite[export]'"
            ) from error


@contextmanager
def reading(path: str | os.PathLike, rule: str, argument: str = "path") -> Iterator[None]:
    """Turn any error over a file's content into a ValueError of one printable line.

    Parsers raise errors of many types without a common base, MemoryError and RecursionError too.

    Args:
        path: of the file.
        rule: what the file must do or be, as in "hold a network".
        argument: the caller's name for the path.

    Raises:
        ValueError: in place of any error inside the block.
        OSError: if the file cannot be opened.
    """
    with open(path, "rb"):
        pass
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())[:500] or type(error).__name__
        text = in_one_line(ValueError(text))
        raise ValueError(f"{argument} must {rule}, got {path}: {text}") from error


def check_module(network: nn.Module, plain: bool = True) -> None:
    """Raise a ValueError if a network is none, or its weights are generated and must not be."""
    if not isinstance(network, nn.Module):
        raise ValueError(f"network must be an nn.Module, got {network!r}")
    if plain and isinstance(network, GeneratedNetwork):
        raise ValueError(
            f"network must be a plain one, got {type(network).__name__}: give its to_classical()"
        )


def check_finite(tensors: Iterable[tuple[str, Tensor]], what: str) -> None:
    """Raise a ValueError if a tensor has an entry that is NaN or infinite."""
    for name, tensor in tensors:
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{what} must have finite weights, got NaN or infinity in {name!r}")


def check_cost(n_numbers: int, n_products: int) -> None:
    """Raise a ValueError if a network from a file would fill the memory or run for hours."""
    if n_numbers > MAX_NUMBERS or n_products > MAX_PRODUCTS:
        raise ValueError(
            f"network must take at most {MAX_NUMBERS:,} numbers and {MAX_PRODUCTS:,} products an "
            f"image, got {n_numbers:.1e} and {n_products:.1e}"
        )


def check_tensors(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Raise a RuntimeError if a file does not give the tensors it was written with bit for bit."""
    pairs = zip(before.values(), after.values(), strict=True)
    if len(before) != len(after) or not all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs):
        raise RuntimeError("the written file must give the same tensors, got others")


def check_outputs(expected: Tensor, found: Tensor) -> None:
    """Compare the outputs of a network with those of its file.

    Raises:
        RuntimeError: if they differ by more than ``TOLERANCE`` of the largest output.
    """
    if expected.shape != found.shape:
        raise RuntimeError(
            f"the written file must give outputs of shape {tuple(expected.shape)}, "
            f"got {tuple(found.shape)}"
        )
    if expected.numel() == 0:
        return
    difference, size = (expected - found).abs().max().item(), expected.abs().max().item()
    if not difference <= max(TOLERANCE * size, ROUNDING):  # NaN fails as well
        raise RuntimeError(
            f"the written file must give the network's outputs within {TOLERANCE} of the largest, "
            f"{size:.1e}, got a difference of {difference:.1e}"
        )


@torch.no_grad()
def one_output(network: nn.Module, example: Tensor) -> Tensor:
    """Run the network on examples and check that a file can hold such a network.

    Raises:
        ValueError: if there are fewer than 2 examples (1 would be taken for a fixed size), the
            network does not take them or takes only as many, or it returns anything but one tensor
            with an entry for each.
    """
    if len(example) < 2:
        raise ValueError(f"example must hold at least 2 inputs, got {len(example)}")
    try:
        output = network(example)
    except RuntimeError as error:
        raise ValueError(
            f"example must hold inputs that the network takes, got shape {tuple(example.shape)}: "
            f"{in_one_line(error)}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(example):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            "network must return one tensor with the batch as first axis, "
            f"got {found} for {len(example)} inputs"
        )
    try:
        check_outputs(output[:1], network(example[:1]))
    except RuntimeError as error:
        raise ValueError(
            f"network must take a batch of any length, got {in_one_line(error)} for 1 input in "
            f"place of {len(example)}: use x.shape[0] or -1 where a length is written as a number"
        ) from error
    return output
