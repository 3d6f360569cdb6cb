"""The targets, whose weights are generated: the paper's two CNNs."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from qtlite.experiments.data.catalogue import entry_of


def paper_cnn(dataset: str, *, relu: bool = True) -> nn.Sequential:
    """Build the classical network of Tables I and II (6,690 weights) or III (285,226).

    The paper names no activation and the authors' code has none: max-pooling is its only
    nonlinearity. ``relu`` adds one after each hidden layer.

    Args:
        dataset: of the catalogue, which has the sizes.
        relu: whether hidden layers end in ReLU.

    Returns:
        Images, shape (batch, channels, height, width), to logits, shape (batch, classes).

    Raises:
        ValueError: if the dataset is unknown.

    Example:
        >>> sum(p.numel() for p in paper_cnn("mnist").parameters())
        6690
        >>> sum(p.numel() for p in paper_cnn("cifar10").parameters())
        285226
    """
    network, n_features = convolutions(dataset, relu=relu)
    entry = entry_of(dataset)
    return append_linear(network, [n_features, *entry.linear, len(entry.classes)], relu=relu)


def convolutions(dataset: str, *, relu: bool = True) -> tuple[nn.Sequential, int]:
    """Build the two convolutions that all the paper's networks for a dataset share.

    Args:
        dataset: of the catalogue.
        relu: whether each convolution ends in ReLU.

    Returns:
        Images, shape (batch, channels, height, width), to features, shape (batch, n_features); and
        n_features.

    Raises:
        ValueError: if the dataset is unknown, or its images are too small.

    Example:
        >>> network, n_features = convolutions("mnist")
        >>> sum(p.numel() for p in network.parameters()), n_features
        (2620, 192)
    """
    entry = entry_of(dataset)
    network, (n_in, *size) = nn.Sequential(), entry.image_shape
    for n_out, padding in entry.convolutions:
        network.extend([nn.Conv2d(n_in, n_out, 5, padding=padding), nn.MaxPool2d(2)])
        if relu:  # after the pooling: the same result from a quarter of the numbers
            network.append(nn.ReLU())
        n_in, size = n_out, [(side + 2 * padding - 4) // 2 for side in size]
    if min(size) < 1:
        raise ValueError(
            f"dataset must have images of 16 x 16 pixels at least for this CNN, got {dataset!r}"
        )
    return network.append(nn.Flatten()), n_in * size[0] * size[1]


def append_linear(network: nn.Sequential, widths: Sequence[int], *, relu: bool) -> nn.Sequential:
    """Append fully connected layers, with a ReLU after each but the last, and return the network.

    Args:
        network: changed in place.
        widths: inputs of the first layer, then outputs of each.
        relu: whether hidden layers end in ReLU.

    Example:
        >>> len(append_linear(nn.Sequential(), [192, 20, 10], relu=True))
        3
    """
    for place, (n_in, n_out) in enumerate(pairwise(widths)):
        if place > 0 and relu:
            network.append(nn.ReLU())
        network.append(nn.Linear(n_in, n_out))
    return network
