"""All weights of a generated network and of its baseline (the paper's Fig. 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.runs import NETWORK, finished_run
from qtlite.export import load_safetensors


def weights_of_both(row: Row, n_pieces: int = 400, n_bins: int = 120) -> dict[str, Any]:
    """Summarise the weights of a trained Quantum-Train network and of its baseline.

    Args:
        row: of the two runs, with the recipe ``qtlite``.
        n_pieces: groups of neighbouring weights.
        n_bins: bins of the histogram over the range of both networks.

    Returns:
        ``n_weights``, the ``edges`` of the bins, and for "qt" and "classical" the ``run``'s id, the
        ``lowest`` and ``highest`` weight of each group, and the ``counts`` of the bins.
    """
    weights, folders = {}, {}
    for model in ("qt", "classical"):
        blocks = {"n_blocks": row.n_blocks} if model == "qt" else {}
        config = recipe_config("qtlite", row.dataset, model=model, seed=row.seed, **blocks)
        folders[model], network = finished_run(row.runs, config), paper_cnn(row.dataset)
        load_safetensors(network, folders[model] / NETWORK)
        flat = torch.nn.utils.parameters_to_vector(network.parameters())
        weights[model] = flat.detach().double()
    both = torch.cat(list(weights.values()))
    edges = torch.linspace(both.min(), both.max(), n_bins + 1, dtype=torch.double)
    networks = {
        model: {
            "run": folders[model].name,
            "lowest": _rounded(map(torch.min, flat.tensor_split(n_pieces))),
            "highest": _rounded(map(torch.max, flat.tensor_split(n_pieces))),
            "counts": torch.histogram(flat, edges).hist.int().tolist(),
        }
        for model, flat in weights.items()
    }
    return {"n_weights": len(flat), "edges": edges.tolist(), **networks}


def _rounded(values: Iterable[Tensor]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


STUDY = Study("weights", weights_of_both)
