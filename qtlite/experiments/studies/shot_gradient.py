"""How much of the gradient is left with a finite number of shots?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from qtlite.experiments.data.loading import to_float
from qtlite.experiments.models.build import build_model
from qtlite.experiments.studies.sampling import SampledQNN
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.runs import trained_models


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


STUDY = Study("gradient", gradient_against_shots)
