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
    if dataset in ("mnist", "fashion_mnist", "digits"):
        features = [(1, 8, 0), (8, 12, 0)]
        widths = [192, 20, 10]
    elif dataset == "cifar10":
        features = [(3, 16, 2), (16, 32, 2)]
        widths = [2048, 128, 64, 10]
    else:
        raise ValueError(
            f"dataset must be one of 'mnist', 'fashion_mnist', 'digits', 'cifar10', got {dataset!r}"
        )
    layers: list[nn.Module] = []
    for n_in, n_out, padding in features:
        layers += [nn.Conv2d(n_in, n_out, 5, padding=padding), nn.MaxPool2d(2)]
        layers += [nn.ReLU()] if relu else []  # after the pooling: the same, on a quarter
    layers.append(nn.Flatten())
    for n_in, n_out in pairwise(widths):
        layers.append(nn.Linear(n_in, n_out))
        layers += [nn.ReLU()] if relu and n_out != widths[-1] else []
    return nn.Sequential(*layers)
