"""The ladder: three changes between two recipes, in every combination, so in every order."""

from itertools import product
from typing import Any

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.loop import train

CHANGES = ("learning_rate", "normalisation", "feature")


def ladder_config(start: str, changed: tuple[str, ...], **settings: Any) -> TrainConfig:
    """Return a config that has the changed choices from ``qtlite`` and the others from ``literal``.

    Args:
        start: the recipe of all choices that are not in ``CHANGES``: "literal" or "qtlite".
        changed: some of ``CHANGES``. The learning rate of "literal" is changed to 0.01.
        settings: other fields of ``TrainConfig``.

    Example:
        >>> config = ladder_config("literal", ("feature",))
        >>> config.feature, config.normalisation, config.learning_rate
        ('scaled', 'none', 0.0001)
    """
    ours, literal = (recipe_config(name, **settings) for name in ("qtlite", "literal"))
    values = {name: getattr(ours if name in changed else literal, name) for name in CHANGES}
    if start == "literal" and "learning_rate" in changed:
        values["learning_rate"] = 0.01
    return recipe_config(start, **settings, **values)


def ladder(row: Row, epochs: int, n_train: int | None, n_seeds: int = 3) -> list[dict[str, Any]]:
    """Train every combination of the three changes, from both starts.

    Args:
        row: of the configs.
        epochs, n_train: of each run.
        n_seeds: for each combination, from 0 on.

    Returns:
        One entry for each run: ``start``, ``changed``, ``seed``, ``test_accuracy`` and
        ``train_loss`` (nats).
    """
    images, found = row.images(), []
    settings = {"dataset": row.dataset, "n_blocks": row.n_blocks}
    settings |= {"epochs": epochs, "n_train": n_train}
    for start, *kept in product(("literal", "qtlite"), *[(False, True)] * len(CHANGES)):
        changed = tuple(name for name, keep in zip(CHANGES, kept, strict=True) if keep)
        for seed in range(n_seeds):
            config = ladder_config(start, changed, seed=seed, **settings)
            record = train(config, images, progress=False).record
            entry = {name: record[name] for name in ("seed", "test_accuracy", "train_loss")}
            found.append({"start": start, "changed": list(changed), **entry})
    return found


def _size(row: Row) -> dict[str, int | None]:
    few = row.dataset == "digits"
    return {"epochs": 20 if few else 10, "n_train": None if few else 10_000}


STUDY = Study("ladder", ladder, derived=_size)
