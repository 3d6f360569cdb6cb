"""A task small enough for density matrices and honest shots: 60 weights, six qubits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qtlite.experiments.data.loading import Dataset
from qtlite.quantum_train import QuantumTrain

N_COMPONENTS = 5  # 5 inputs and a bias for each of ten digits: 60 weights on 64 basis states


@dataclass(frozen=True)
class Toy:
    """Images by their first principal components, shape (n, 5); labels, shape (n,)."""

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor


def toy_task(dataset: Dataset) -> Toy:
    """Reduce images to their first five principal components, each of mean 0 and variance 1.

    Args:
        dataset: any with ten classes; ``load_dataset("digits")`` needs no download.

    Example:
        >>> from qtlite.experiments.data.loading import load_dataset
        >>> toy_task(load_dataset("digits")).inputs.shape
        torch.Size([1500, 5])
    """
    pixels = dataset.train_images.flatten(1).double()
    mean = pixels.mean(dim=0)
    directions = torch.linalg.eigh((pixels - mean).T.cov()).eigenvectors[:, -N_COMPONENTS:]
    scale = ((pixels - mean) @ directions).std(dim=0)

    def components(images: Tensor) -> Tensor:
        return ((images.flatten(1).double() - mean) @ directions / scale).float()

    return Toy(
        components(dataset.train_images),
        dataset.train_labels,
        components(dataset.test_images),
        dataset.test_labels,
    )


def toy_model(n_blocks: int = 4, seed: int = 0) -> QuantumTrain:
    """Quantum-Train for a linear classifier of the toy task: 60 weights from six qubits.

    Example:
        >>> model = toy_model()
        >>> model.n_weights, model.n_qubits, model.qnn.angles.numel()
        (60, 6, 24)
    """
    target = nn.Linear(N_COMPONENTS, 10)
    return QuantumTrain(target, n_blocks, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def toy_accuracy(model: nn.Module, toy: Toy) -> float:
    """Fraction of the test images that a model gets right."""
    return (model(toy.test_inputs).argmax(dim=1) == toy.test_labels).float().mean().item()
