"""What the C library does with the memory that a training step frees."""

from __future__ import annotations

import torch

# glibc's largest: of blocks above 32 MB it takes no notice
LARGEST = 31 * 2**20  # bytes


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next training step.

    glibc gives memory back to the system as soon as a few MB lie free at the end of the heap. Each
    step then asks for it again, page by page, which takes a fifth of Quantum-Train's steps on
    MNIST. "A few MB" is twice the largest block that was once mapped by itself and freed, if at
    most 32 MB: one such block is mapped and freed here. On other systems nothing comes of it.

    Example:
        >>> keep_freed_memory()
    """
    torch.empty(LARGEST, dtype=torch.uint8)
