"""Settings of the whole process while it trains: memory, arithmetic, devices."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# glibc's numbers for mallopt, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ValueError: if ``device`` is not "cpu" and PyTorch finds no CUDA device.

    Example:
        >>> check_device("cpu")
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device must be 'cpu' where PyTorch finds no CUDA device, got {device!r}")


@contextmanager
def deterministic_cudnn() -> Iterator[None]:
    """Use only those cuDNN algorithms that always add in the same order; for GPUs."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Treat numbers below 1e-38 as 0 on a CPU, where a step with them takes twenty times as long.

    Weight decay leads many weights there. The setting holds in this thread, and in PyTorch's other
    threads if they start meanwhile, as they do in `qtlite train`.
    """
    smallest = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    before = not (smallest * 1).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next training step.

    glibc returns freed memory to the system: blocks above 32 MB at once, the end of the heap when a
    few MB of it are free. The next step asks for it again, page by page, which costs a fifth of
    Quantum-Train's step on MNIST and a third of the CNN's on CIFAR-10. After this call the process
    keeps its heap until it ends, whatever MALLOC_ variables say; CIFAR-10 then needs a sixth more
    memory. Large blocks of threads other than the main one are still returned. Without glibc
    nothing happens.

    Example:
        >>> keep_freed_memory()
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no way to ask for it
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)  # never
