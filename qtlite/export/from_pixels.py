"""An image classifier that takes pixels as they are stored."""

from math import inf, isfinite

import torch
from torch import Tensor, nn


class FromPixels(nn.Module):
    """A network with its preprocessing: logits = network((pixels / 255 - mean) / std).

    The input is uint8, 0 to 255, as in a PNG file. Runtimes refuse other types, so nobody can
    forget to divide, or divide twice.

    Args:
        network: images of its own floating-point type, shape (batch, channels, height, width), to
            logits.
        mean, std: of pixels in [0, 1], as in training.

    Raises:
        ValueError: if ``mean`` or ``std`` is not finite or ``std`` is not positive.

    Example:
        >>> classify = FromPixels(nn.Flatten(), mean=0.5, std=0.5)
        >>> classify(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
        [[-1.0, 1.0]]
    """

    def __init__(self, network: nn.Module, mean: float, std: float):
        super().__init__()
        if not 0 < std < inf:
            raise ValueError(f"std must be positive, got {std}")
        if not isfinite(mean):
            raise ValueError(f"mean must be finite, got {mean}")
        self.network, self.mean, self.std = network, mean, std
        self.train(network.training)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, shape (batch, classes), of uint8 pixels.

        Args:
            pixels: shape (batch, channels, height, width).

        Raises:
            ValueError: if ``pixels`` are not uint8.
        """
        if pixels.dtype != torch.uint8:
            raise ValueError(f"pixels must be uint8, 0 to 255, got {pixels.dtype}")
        types = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        pixels = pixels.to(next(types, torch.float32))
        return self.network((pixels / 255 - self.mean) / self.std)
