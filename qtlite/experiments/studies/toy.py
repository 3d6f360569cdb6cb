"""A task small enough for density matrices and for training with shots: 60 weights, six qubits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.experiments.data.loading import Dataset, load_dataset
from qtlite.experiments.studies.noise import compare_models, noisy_probabilities, survival, unmix
from qtlite.experiments.studies.sampling import network_from
from qtlite.experiments.studies.study import Study
from qtlite.experiments.train.fitting import fit
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
    """Return Quantum-Train for a linear classifier of the toy task: 60 weights from six qubits.

    Example:
        >>> model = toy_model()
        >>> model.n_weights, model.n_qubits, model.qnn.angles.numel()
        (60, 6, 24)
    """
    target = nn.Linear(N_COMPONENTS, 10)
    return QuantumTrain(target, n_blocks, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def toy_accuracy(model: nn.Module, toy: Toy) -> float:
    """Return the fraction of test images that a model classifies correctly."""
    return (model(toy.test_inputs).argmax(dim=1) == toy.test_labels).float().mean().item()


def toy_noise(
    sizes: Sequence[tuple[int, int]] = ((4, 4), (4, 16), (6, 4), (6, 16), (8, 16)),
    error_rates: Sequence[float] = tuple(10 ** (k / 4) for k in range(-16, -3)),
    n_blocks: int = 4,
    n_seeds: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Test the toy task's networks with noisy density matrices, and the global model of noise.

    Args:
        sizes: pairs (N, L) for ``compare_models``.
        error_rates: values of epsilon.
        n_blocks: L of the toy's circuit.
        n_seeds, seed: number of models, trained without noise, and the seed of the first.

    Returns:
        ``models``, see ``compare_models``; ``accuracy`` for each seed and rate, with exact, noisy
        and corrected probabilities; ``n_test`` and ``n_qubits``.
    """
    toy = toy_task(load_dataset("digits"))
    points = []
    for start in range(seed, seed + n_seeds):
        model = toy_model(n_blocks, start)
        fit(model, toy.inputs, toy.labels, epochs=20, learning_rate=0.05, seed=start)
        exact = toy_accuracy(model, toy)
        for rate in error_rates:
            surviving = survival(model.n_qubits, n_blocks, rate)
            noisy = noisy_probabilities(model.qnn.angles, rate).float()
            corrected = network_from(model, unmix(noisy, surviving))
            point = {"seed": start, "error_rate": rate, "survival": surviving}
            point |= {"exact_accuracy": exact, "corrected_accuracy": toy_accuracy(corrected, toy)}
            points.append({**point, "accuracy": toy_accuracy(network_from(model, noisy), toy)})
    counts = {"n_test": len(toy.test_labels), "n_qubits": model.n_qubits}
    models = compare_models(sizes, error_rates, seed=seed)
    return {**counts, "models": models, "accuracy": points}


STUDY = Study("toy-noise", toy_noise)
