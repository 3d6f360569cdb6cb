"""Trained networks: which classes they take for which, and all their weights."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qtlite.experiments.data.loading import to_float
from qtlite.experiments.studies.study import Row, Study


@torch.no_grad()
def confusion(row: Row) -> dict[str, Any]:
    """Count the test images of each class by the class that a trained network gives them.

    Args:
        row: of a finished run of Quantum-Train with the recipe ``qtlite``.

    Returns:
        The ``run``'s id, and ``counts``: a row for each true class, a column for each answer.
    """
    name, network = row.network("qt")
    images, config = row.images(), row.config()
    answers = torch.cat(
        [
            network(to_float(part, config.pixel_mean, config.pixel_std)).argmax(dim=1)
            for part in images.test_images.split(1000)
        ]
    )
    counts = torch.zeros(10, 10, dtype=torch.long)
    counts.index_put_((images.test_labels, answers), torch.ones_like(answers), accumulate=True)
    return {"run": name, "counts": counts.tolist()}


def weights_of_both(row: Row, n_pieces: int = 400, n_bins: int = 120) -> dict[str, Any]:
    """Summarise the weights of a Quantum-Train network and of its baseline (the paper's Fig. 3).

    Args:
        row: of the two runs, with the recipe ``qtlite``.
        n_pieces: groups of neighbouring weights.
        n_bins: bins of the histogram over the range of both networks.

    Returns:
        ``n_weights``, the ``edges`` of the bins, and for "qt" and "classical" the ``run``'s id, the
        ``lowest`` and ``highest`` weight of each group, and the ``counts`` of the bins.
    """
    names, weights = {}, {}
    for model in ("qt", "classical"):
        names[model], network = row.network(model)
        flat = torch.nn.utils.parameters_to_vector(network.parameters())
        weights[model] = flat.detach().double()
    both = torch.cat(list(weights.values()))
    edges = torch.linspace(both.min(), both.max(), n_bins + 1, dtype=torch.double)
    networks = {
        model: {
            "run": names[model],
            "lowest": _rounded(map(torch.min, flat.tensor_split(n_pieces))),
            "highest": _rounded(map(torch.max, flat.tensor_split(n_pieces))),
            "counts": torch.histogram(flat, edges).hist.int().tolist(),
        }
        for model, flat in weights.items()
    }
    return {"n_weights": len(flat), "edges": edges.tolist(), **networks}


def _rounded(values: Iterable[Tensor]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


CONFUSION = Study("confusion", confusion)
WEIGHTS = Study("weights", weights_of_both)
