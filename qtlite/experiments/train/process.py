"""What the C library does with the memory that a training step frees."""

from __future__ import annotations

import ctypes

# glibc's numbers for mallopt, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next training step.

    glibc gives memory back to the system when it is freed: blocks of more than 32 MB at once, the
    end of the heap as soon as a few MB of it lie free. Each step then asks for it again, page by
    page, which takes a fifth of Quantum-Train's steps on MNIST and a third of the CNN's on
    CIFAR-10. From now on this process maps no block by itself and keeps its heap until it ends,
    whatever MALLOC_ variables say; on CIFAR-10 it needs a sixth more memory. (Large blocks of other
    threads than the main one are given back all the same.) On systems without glibc nothing
    happens.

    Example:
        >>> keep_freed_memory()
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no way to ask for it
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)  # never
