"""How many directions the weights can move in: the rank of their derivative by the parameters."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qtlite.experiments.controls import CONTROLS
from qtlite.experiments.models.build import build_model
from qtlite.experiments.studies.study import Row, Study
from qtlite.quantum_train import GeneratedNetwork

# A singular value below this part of the largest counts as zero: networks train in single
# precision, where it makes no difference.
RELATIVE_TOLERANCE = torch.finfo(torch.float32).eps
STEP = 1e-5  # of the central differences in double precision: errors of about 1e-10


@torch.no_grad()
def singular_values(model: GeneratedNetwork) -> Tensor:
    """Return the singular values of d weights / d trained parameters, largest first.

    The M x P matrix (M weights, P parameters) comes from central differences in double precision:
    with far more weights than parameters, 2 P forward passes are cheaper than M backward passes.

    Args:
        model: trained or not; unchanged.

    Returns:
        Shape (min(M, P),), float64.

    Example:
        >>> from qtlite import QuantumTrain
        >>> model = QuantumTrain(torch.nn.Linear(10, 5), n_blocks=2)
        >>> singular_values(model).shape  # 55 weights, 233 parameters
        torch.Size([55])
    """
    model = copy.deepcopy(model).double()

    def all_weights() -> Tensor:
        return torch.cat([weight.flatten() for weight in model.weights().values()])

    columns = []
    for parameter in (p for p in model.parameters() if p.requires_grad):
        numbers = parameter.data.view(-1)
        for i, start in enumerate(numbers.tolist()):
            numbers[i] = start + STEP
            above = all_weights()
            numbers[i] = start - STEP
            columns.append((above - all_weights()) / (2 * STEP))
            numbers[i] = start
    return torch.linalg.svdvals(torch.stack(columns, dim=1))


def effective_rank(model: GeneratedNetwork) -> int:
    """Count the directions in which the trained parameters can move the weights, to first order.

    These are the singular values that are not zero in single precision, at most one for each
    trained parameter. A mapping net without activation has few: it is affine, whatever its width.

    Example:
        >>> from qtlite import MappingNet, QuantumTrain
        >>> target = torch.nn.Linear(30, 10)
        >>> net = MappingNet(9, activation="none")
        >>> affine = QuantumTrain(target, 1, mapping=net, normalisation="none")
        >>> _ = affine.qnn.requires_grad_(False)
        >>> affine.n_trainable, effective_rank(affine)  # N + 1 slopes and one constant
        (233, 11)
    """
    return _rank(singular_values(model))


def _rank(values: Tensor) -> int:
    return int((values > RELATIVE_TOLERANCE * values[0]).sum())


def ranks(
    row: Row,
    models: Sequence[str] = ("qt", *CONTROLS),
    recipes: Sequence[str] = ("qtlite", "literal", "released"),
) -> dict[str, list[dict[str, Any]]]:
    """Return singular values of untrained models: of QT and its controls, and of each recipe.

    Args:
        row: of every config.
        models: with the recipe ``qtlite``.
        recipes: with the model ``qt``.

    Returns:
        For each of ``models`` and ``recipes``: ``n_trainable``, ``rank`` and ``singular_values``,
        for recipes also ``rank_of_mapping``, with fixed angles.
    """

    def found(model: GeneratedNetwork) -> dict[str, Any]:
        values = singular_values(model)
        rounded = [float(f"{value:.6g}") for value in values.tolist()]
        counts = {"n_trainable": model.n_trainable, "rank": _rank(values)}
        return {**counts, "singular_values": rounded}

    by_model, by_recipe = [], []
    for name in models:
        by_model.append({"model": name, **found(build_model(row.config(model=name)))})
    for recipe in recipes:
        config = row.config(recipe)
        mapping = build_model(config)
        mapping.qnn.requires_grad_(False)
        whole, of_mapping = found(build_model(config)), effective_rank(mapping)
        by_recipe.append({"recipe": recipe, **whole, "rank_of_mapping": of_mapping})
    return {"models": by_model, "recipes": by_recipe}


STUDY = Study("ranks", ranks)
