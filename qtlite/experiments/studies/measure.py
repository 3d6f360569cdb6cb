"""The measurements behind the chapters on shots, noise and gradients: ``qtlite measure``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from qtlite.experiments.controls import CONTROLS
from qtlite.experiments.data.loading import load_dataset, to_float
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.measurements import take_measurement
from qtlite.experiments.studies.effective_rank import rank, singular_values
from qtlite.experiments.studies.noise import (
    accuracy_against_noise,
    compare_models,
    noisy_probabilities,
    survival,
    unmix,
)
from qtlite.experiments.studies.shots import (
    SampledQNN,
    accuracy_against_shots,
    network_from,
)
from qtlite.experiments.studies.toy import toy_accuracy, toy_model, toy_task
from qtlite.experiments.studies.trainability import (
    classifier_of_size,
    derivative_variance,
    loss_gradient_variance,
)
from qtlite.experiments.train.fitting import fit
from qtlite.experiments.train.loop import evaluate
from qtlite.experiments.train.runs import finished_run, trained_models
from qtlite.experiments.train.sweep import NETWORK
from qtlite.export import load_safetensors
from qtlite.quantum_train import GeneratedNetwork

Data = str | os.PathLike | None
NAMES = ("shots", "training", "gradient", "noise", "toy-noise", "trainability", "ranks", "weights")

SHOTS = tuple(2**k for k in range(10, 25))
TRAINING_SHOTS = (2**12, 2**14, 2**16, 2**18)
GRADIENT_SHOTS = tuple(2**k for k in range(8, 19, 2))
ERROR_RATES = tuple(10 ** (k / 4) for k in range(-22, -7))
TOY_ERROR_RATES = tuple(10 ** (k / 4) for k in range(-16, -3))


def measure(
    name: str, dataset: str = "mnist", n_blocks: int = 16, *, runs: Path, data: Data = None
) -> dict[str, Any]:
    """Take one of the measurements, with the settings that the book quotes.

    Args:
        name: one of ``NAMES``.
        dataset: for "shots", "training", "gradient", "noise", "ranks" and "weights".
        n_blocks: L, for the same.
        runs: where trained models are, see ``trained_models``.
        data: the images' folder, see ``load_dataset``.

    Returns:
        What ``take_measurement`` returns.

    Raises:
        ValueError: if the name is unknown, ``n_blocks`` below 1, or no run fits.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {NAMES}, got {name!r}")
    if n_blocks < 1:
        raise ValueError(f"n_blocks must be at least 1, got {n_blocks}")
    row = {"dataset": dataset, "n_blocks": n_blocks, "seed": 0}
    measurements: dict[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
        "shots": (
            partial(_trained, accuracy_against_shots, runs=runs, data=data),
            {**row, "shots": list(SHOTS), "n_draws": 4, "n_seeds": 3},
        ),
        "training": (
            partial(_training, data=data),
            {
                **row,
                "shots": list(TRAINING_SHOTS),
                "epochs": 2,
                "learning_rate": round(0.06 / n_blocks**0.5, 4),  # for plain Adam, see ``fit``
            },
        ),
        "gradient": (
            partial(_gradient, runs=runs, data=data),
            {**row, "shots": list(GRADIENT_SHOTS), "n_images": 512},
        ),
        "noise": (
            partial(_trained, accuracy_against_noise, runs=runs, data=data),
            {**row, "error_rates": list(ERROR_RATES), "n_shots": 2**22, "n_seeds": 2},
        ),
        "toy-noise": (
            _toy_noise,
            {
                "sizes": [[4, 4], [4, 16], [6, 4], [6, 16], [8, 16]],
                "error_rates": list(TOY_ERROR_RATES),
                "n_blocks": 4,
                "n_seeds": 5,
                "seed": 0,
            },
        ),
        "trainability": (
            _trainability,
            {
                "qubits": list(range(2, 15)),
                "blocks": [1, 2, 4, 8, 16, 32, 64, 128],
                "ranges": [math.pi, 0.1],
                "n_draws": 200,
                "loss_qubits": list(range(7, 15)),
                "loss_blocks": [1, 4, 16, 61, 121],
                "loss_draws": 100,
                "seed": 0,
            },
        ),
        "ranks": (
            _ranks,
            {**row, "models": ["qt", *CONTROLS], "recipes": ["qtlite", "literal", "released"]},
        ),
        "weights": (
            partial(_weights, runs=runs),
            {**row, "n_pieces": 400, "n_bins": 120},
        ),
    }
    function, config = measurements[name]
    full = f"{name}-{dataset}-L{n_blocks}" if "dataset" in config else name
    return take_measurement(full, function, config)


def _weights(
    dataset: str, n_blocks: int, seed: int, n_pieces: int, n_bins: int, runs: Path
) -> dict[str, Any]:
    """All weights of two networks (Fig. 3): the generated one and the one trained as usual.

    Against their index, the lowest and highest of each of ``n_pieces`` neighbouring pieces; and how
    many lie in each of ``n_bins`` bins over the range of both networks.
    """
    values = {}
    for model in ("qt", "classical"):
        blocks = {"n_blocks": n_blocks} if model == "qt" else {}
        config = recipe_config("qtlite", dataset, model=model, seed=seed, **blocks)
        folder, network = finished_run(runs, config), paper_cnn(dataset)
        load_safetensors(network, folder / NETWORK)
        flat = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
        values[model] = folder.name, flat.double()
    everything = torch.cat([flat for _, flat in values.values()])
    edges = torch.linspace(everything.min(), everything.max(), n_bins + 1, dtype=torch.double)
    networks = {
        model: {
            "run": run,
            "lowest": _rounded(map(torch.min, flat.tensor_split(n_pieces))),
            "highest": _rounded(map(torch.max, flat.tensor_split(n_pieces))),
            "counts": torch.histogram(flat, edges).hist.int().tolist(),
        }
        for model, (run, flat) in values.items()
    }
    return {"n_weights": len(flat), "edges": edges.tolist(), **networks}


def _rounded(values: Iterable[torch.Tensor]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _ranks(
    dataset: str, n_blocks: int, models: Sequence[str], recipes: Sequence[str], seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Singular values of untrained models: of QT and its controls, and of each recipe."""

    def found(model: GeneratedNetwork) -> dict[str, Any]:
        values = singular_values(model)
        return {
            "n_trainable": model.n_trainable,
            "rank": rank(values),
            "singular_values": [float(f"{value:.6g}") for value in values.tolist()],
        }

    by_model, by_recipe = [], []
    for name in models:
        config = recipe_config("qtlite", dataset, model=name, n_blocks=n_blocks, seed=seed)
        by_model.append({"model": name, **found(build_model(config))})
    for recipe in recipes:
        config = recipe_config(recipe, dataset, n_blocks=n_blocks, seed=seed)
        whole, mapping = build_model(config), build_model(config)
        mapping.qnn.requires_grad_(False)
        of_mapping = found(mapping)["rank"]
        by_recipe.append({"recipe": recipe, **found(whole), "rank_of_mapping": of_mapping})
    return {"models": by_model, "recipes": by_recipe}


def _trained(
    accuracies: Callable[..., dict[str, Any]],
    dataset: str,
    n_blocks: int,
    n_seeds: int,
    seed: int,
    *,
    runs: Path,
    data: Data,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Accuracies of recorded networks against shots or error rates; one entry a run."""
    images = load_dataset(dataset, data)
    test = images.test_images, images.test_labels
    generator = torch.Generator().manual_seed(seed)
    results = []
    for name, (config, model) in trained_models(runs, dataset, n_blocks, at_most=n_seeds).items():
        found = accuracies(model, config, *test, generator=generator, **settings)
        results.append({"record": name, "n_qubits": model.n_qubits, **found})
    return results


def _training(
    dataset: str,
    n_blocks: int,
    shots: Sequence[int],
    epochs: int,
    learning_rate: float,
    seed: int,
    *,
    data: Data,
) -> list[dict[str, Any]]:
    """Train with p^ forward and the exact derivative backward; the last entry is exact."""
    images = load_dataset(dataset, data)
    config = recipe_config("qtlite", dataset, n_blocks=n_blocks, epochs=epochs, seed=seed)
    results = []
    for n_shots in [*shots, None]:
        model = build_model(config)
        circuit = model.qnn
        if n_shots is not None:
            generator = torch.Generator().manual_seed(seed)
            model.qnn = SampledQNN(circuit, n_shots, "straight_through", generator)
        losses = fit(
            model,
            images.train_images,
            images.train_labels,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=config.batch_size,
            seed=seed,
            prepare=partial(to_float, mean=config.pixel_mean, std=config.pixel_std),
        )
        test = images.test_images, images.test_labels, config
        sampled_accuracy = evaluate(model.to_classical(), *test)[1]
        model.qnn = circuit
        results.append(
            {
                "n_shots": n_shots,
                "last_loss": sum(losses[-100:]) / len(losses[-100:]),
                "sampled_accuracy": sampled_accuracy,
                "exact_accuracy": evaluate(model.to_classical(), *test)[1],
            }
        )
    return results


def _gradient(
    dataset: str,
    n_blocks: int,
    shots: Sequence[int],
    n_images: int,
    seed: int,
    *,
    runs: Path,
    data: Data,
) -> list[dict[str, Any]]:
    """Whole gradients by parameter shift and shots, beside exact ones: untrained and trained.

    d loss / d p, too, is taken at p^, as it would be on a quantum computer.
    """
    images = load_dataset(dataset, data)
    ((_, (config, trained)),) = trained_models(runs, dataset, n_blocks, at_most=1).items()
    inputs = to_float(images.train_images[:n_images], config.pixel_mean, config.pixel_std)
    labels = images.train_labels[:n_images]
    results = []
    for stage, model in (("untrained", build_model(config)), ("trained", trained)):
        circuit = model.qnn
        F.cross_entropy(model(inputs), labels).backward()
        exact = circuit.angles.grad.clone()
        for n_shots in shots:
            circuit.angles.grad = None
            generator = torch.Generator().manual_seed(seed)
            model.qnn = SampledQNN(circuit, n_shots, generator=generator)
            F.cross_entropy(model(inputs), labels).backward()
            found = circuit.angles.grad
            results.append(
                {
                    "stage": stage,
                    "n_shots": n_shots,
                    "cosine": F.cosine_similarity(found.flatten(), exact.flatten(), 0).item(),
                    "length": (found.norm() / exact.norm()).item(),
                }
            )
        model.qnn = circuit
    return results


def _toy_noise(
    sizes: Sequence[tuple[int, int]],
    error_rates: Sequence[float],
    n_blocks: int,
    n_seeds: int,
    seed: int,
) -> dict[str, Any]:
    """Density matrices: against the global model, and the accuracy of the toy's networks."""
    toy = toy_task(load_dataset("digits"))

    def accuracy(network: torch.nn.Module) -> float:
        return toy_accuracy(network, toy)

    points = []
    for start in range(seed, seed + n_seeds):
        model = toy_model(n_blocks, start)
        fit(model, toy.inputs, toy.labels, epochs=20, learning_rate=0.05, seed=start)
        exact = accuracy(model)
        for rate in error_rates:
            noisy = noisy_probabilities(model.qnn.angles, rate).float()
            surviving = survival(model.n_qubits, n_blocks, rate)
            points.append(
                {
                    "seed": start,
                    "error_rate": rate,
                    "survival": surviving,
                    "exact_accuracy": exact,
                    "accuracy": accuracy(network_from(model, noisy)),
                    "corrected_accuracy": accuracy(network_from(model, unmix(noisy, surviving))),
                }
            )
    return {
        "n_test": len(toy.test_labels),
        "n_qubits": model.n_qubits,
        "models": compare_models(sizes, error_rates, seed=seed),
        "accuracy": points,
    }


def _trainability(
    qubits: Sequence[int],
    blocks: Sequence[int],
    ranges: Sequence[float],
    n_draws: int,
    loss_qubits: Sequence[int],
    loss_blocks: Sequence[int],
    loss_draws: int,
    seed: int,
) -> dict[str, Any]:
    """Derivatives of p, then of the loss of untrained models; a row for each setting."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = []
    for angle_range in ranges:
        for n_blocks in blocks:
            for n_qubits in qubits:
                mean, error = derivative_variance(
                    n_qubits, n_blocks, angle_range, n_draws, generator
                )
                probabilities.append(
                    {
                        "n_qubits": n_qubits,
                        "n_blocks": n_blocks,
                        "angle_range": angle_range,
                        "variance": mean,
                        "error": error,
                    }
                )
    digits = load_dataset("digits")
    inputs, labels = to_float(digits.train_images[:256]), digits.train_labels[:256]
    settings = [(n, 16, classifier_of_size(n)) for n in loss_qubits]
    settings += [(13, n_blocks, paper_cnn("digits")) for n_blocks in loss_blocks]
    losses = []
    for n_qubits, n_blocks, target in settings:
        for feature in ("raw", "scaled"):
            for angle_range in ranges:
                mean, error = loss_gradient_variance(
                    target,
                    inputs,
                    labels,
                    n_blocks,
                    loss_draws,
                    generator,
                    feature=feature,
                    angle_range=angle_range,
                )
                losses.append(
                    {
                        "n_qubits": n_qubits,
                        "n_blocks": n_blocks,
                        "target": "cnn" if len(target) > 5 else "mlp",
                        "feature": feature,
                        "angle_range": angle_range,
                        "variance": mean,
                        "error": error,
                    }
                )
    return {"probabilities": probabilities, "losses": losses}
