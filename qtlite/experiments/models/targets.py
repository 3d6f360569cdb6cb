"""The networks whose weights are generated: the paper's two CNNs."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def paper_cnn(dataset: str, *, relu: bool = True) -> nn.Sequential:
    """Build the classical network of Tables I and II (6,690 weights) or III (285,226).

    The paper names no activation and the authors' code has none, so that max-pooling is its only
    nonlinearity; ``relu`` puts one after each hidden layer.

    Args:
        dataset: "mnist", "fashion_mnist" or "digits" (28 x 28 grey) or "cifar10" (32 x 32 colour).
        relu: whether hidden layers end in ReLU.

    Returns:
        Images, shape (batch, channels, height, width), to logits, shape (batch, 10).

    Raises:
        ValueError: if the dataset is unknown.

    Example:
        >>> sum(p.numel() for p in paper_cnn("mnist").parameters())
        6690
        >>> sum(p.numel() for p in paper_cnn("cifar10").parameters())
        285226
    """
    network = convolutions(dataset, relu=relu)
    widths = [2048, 128, 64, 10] if dataset == "cifar10" else [192, 20, 10]
    for place, (n_in, n_out) in enumerate(pairwise(widths)):
        network.append(nn.Linear(n_in, n_out))
        if relu and place < len(widths) - 2:
            network.append(nn.ReLU())
    return network


def convolutions(dataset: str, *, relu: bool = True) -> nn.Sequential:
    """Build the part that all the paper's networks for a dataset share.

    Args:
        dataset: as for ``paper_cnn``.
        relu: whether each convolution ends in ReLU.

    Returns:
        Images, shape (batch, channels, height, width), to features, shape (batch, 192) for 28 x 28
        images and (batch, 2048) for CIFAR-10.

    Raises:
        ValueError: if the dataset is unknown.

    Example:
        >>> sum(p.numel() for p in convolutions("mnist").parameters())
        2620
    """
    if dataset in ("mnist", "fashion_mnist", "digits"):
        sizes = [(1, 8, 0), (8, 12, 0)]
    elif dataset == "cifar10":
        sizes = [(3, 16, 2), (16, 32, 2)]
    else:
        raise ValueError(
            f"dataset must be one of 'mnist', 'fashion_mnist', 'digits', 'cifar10', got {dataset!r}"
        )
    layers: list[nn.Module] = []
    for n_in, n_out, padding in sizes:
        layers += [nn.Conv2d(n_in, n_out, 5, padding=padding), nn.MaxPool2d(2)]
        layers += [nn.ReLU()] if relu else []  # after the pooling: the same, on a quarter
    return nn.Sequential(*layers, nn.Flatten())
