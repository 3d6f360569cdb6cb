"""An image classifier that takes pixels as they are stored."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FromPixels(nn.Module):
    """A network with its preprocessing: logits = network((pixels / 255 - mean) / std).

    The input is uint8, 0 to 255, as in a PNG file. Runtimes refuse another type, so that no one can
    forget to divide, or divide twice.

    Args:
        network: images, shape (batch, channels, height, width), to logits.
        mean, std: of pixels in [0, 1], as in training.

    Raises:
        ValueError: if std is not positive.

    Example:
        >>> classify = FromPixels(nn.Flatten(), mean=0.5, std=0.5)
        >>> classify(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
        [[-1.0, 1.0]]
    """

    def __init__(self, network: nn.Module, mean: float, std: float):
        super().__init__()
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.network, self.mean, self.std = network, mean, std
        self.train(network.training)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels, uint8, shape (batch, channels, height, width), to logits, (batch, classes).

        Raises:
            ValueError: if ``pixels`` are not uint8.
        """
        if pixels.dtype != torch.uint8:
            raise ValueError(f"pixels must be uint8, 0 to 255, got {pixels.dtype}")
        return self.network((pixels.to(torch.float32) / 255 - self.mean) / self.std)
