"""Training with a finite number of shots in every step, and how good its gradients are."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from qtlite.experiments.data.loading import to_float
from qtlite.experiments.models.build import build_model
from qtlite.experiments.studies.sampling import SampledQNN
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.fitting import fit
from qtlite.experiments.train.loop import evaluate
from qtlite.experiments.train.runs import trained_models


def training_with_shots(
    row: Row,
    learning_rate: float,
    shots: Sequence[int] = (2**12, 2**14, 2**16, 2**18),
    epochs: int = 2,
) -> list[dict[str, Any]]:
    """Train with p^ forward and the exact derivative backward, once for each number of shots.

    Args:
        row: of the config, with the recipe ``qtlite``.
        learning_rate: the peak, for Adam, see ``fit``.
        shots: values of S.
        epochs: of each training.

    Returns:
        For each S, and last for exact probabilities (``n_shots`` is None): ``last_loss`` (mean of
        100 steps, nats), and the test accuracy with S shots and with exact probabilities.
    """
    images = row.images()
    config = row.config(epochs=epochs)
    test = images.test_images, images.test_labels, config
    options = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": config.batch_size,
        "seed": row.seed,
        "prepare": partial(to_float, mean=config.pixel_mean, std=config.pixel_std),
    }
    results = []
    for n_shots in [*shots, None]:
        model = build_model(config)
        circuit = model.qnn
        if n_shots is not None:
            generator = torch.Generator().manual_seed(row.seed)
            model.qnn = SampledQNN(circuit, n_shots, "straight_through", generator)
        losses = fit(model, images.train_images, images.train_labels, **options)
        _, sampled_accuracy = evaluate(model.to_classical(), *test)
        model.qnn = circuit
        last = sum(losses[-100:]) / len(losses[-100:])
        found = {"last_loss": last, "sampled_accuracy": sampled_accuracy}
        found["exact_accuracy"] = evaluate(model.to_classical(), *test)[1]
        results.append({"n_shots": n_shots, **found})
    return results


def _rate(row: Row) -> dict[str, float]:
    return {"learning_rate": round(0.06 / row.n_blocks**0.5, 4)}  # smaller for deeper circuits


def gradient_against_shots(
    row: Row, shots: Sequence[int] = tuple(2**k for k in range(8, 19, 2)), n_images: int = 512
) -> list[dict[str, Any]]:
    """Compare whole gradients by parameter shift and shots with exact ones.

    d loss / d p is taken at p^ too, as on a quantum computer.

    Args:
        row: of the trained model.
        shots: values of S.
        n_images: training images in the loss.

    Returns:
        For an untrained and a trained model (``stage``) and each S: the ``cosine`` between the
        gradients, and the ``length`` of the sampled one in units of the exact one's.
    """
    images = row.images()
    ((config, trained),) = trained_models(row.runs, row.dataset, row.n_blocks, at_most=1).values()
    inputs = to_float(images.train_images[:n_images], config.pixel_mean, config.pixel_std)
    labels = images.train_labels[:n_images]
    results = []
    for stage, model in (("untrained", build_model(config)), ("trained", trained)):
        circuit = model.qnn
        (exact,) = torch.autograd.grad(F.cross_entropy(model(inputs), labels), circuit.angles)
        for n_shots in shots:
            generator = torch.Generator().manual_seed(row.seed)
            model.qnn = SampledQNN(circuit, n_shots, generator=generator)
            (found,) = torch.autograd.grad(F.cross_entropy(model(inputs), labels), circuit.angles)
            cosine = F.cosine_similarity(found.flatten(), exact.flatten(), 0).item()
            length = (found.norm() / exact.norm()).item()
            results.append({"stage": stage, "n_shots": n_shots, "cosine": cosine, "length": length})
        model.qnn = circuit
    return results


TRAINING = Study("training", training_with_shots, derived=_rate)
GRADIENT = Study("gradient", gradient_against_shots)
