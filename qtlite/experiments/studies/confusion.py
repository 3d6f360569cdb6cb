"""Which classes a trained network takes for which, on all test images."""

from __future__ import annotations

from typing import Any

import torch

from qtlite.experiments.data.loading import to_float
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.runs import NETWORK, finished_run
from qtlite.export import load_safetensors


@torch.no_grad()
def confusion(row: Row) -> dict[str, Any]:
    """Count the test images of each class by the class that a trained network gives them.

    Args:
        row: of a finished run of Quantum-Train with the recipe ``qtlite``.

    Returns:
        The ``run``'s id, and ``counts``: a row for each true class, a column for each answer.
    """
    config = recipe_config("qtlite", row.dataset, n_blocks=row.n_blocks, seed=row.seed)
    folder, network = finished_run(row.runs, config), paper_cnn(row.dataset)
    load_safetensors(network, folder / NETWORK)
    images = row.images()
    answers = torch.cat(
        [
            network.eval()(to_float(part, config.pixel_mean, config.pixel_std)).argmax(dim=1)
            for part in images.test_images.split(1000)
        ]
    )
    counts = torch.zeros(10, 10, dtype=torch.long)
    counts.index_put_((images.test_labels, answers), torch.ones_like(answers), accumulate=True)
    return {"run": folder.name, "counts": counts.tolist()}


STUDY = Study("confusion", confusion)
