"""A study: what a page quotes and takes too long to compute there; ``qtlite measure NAME``."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from torch import nn

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import Dataset, load_dataset
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.measurements import take_measurement
from qtlite.experiments.train.loop import evaluate
from qtlite.experiments.train.runs import NETWORK, finished_run, trained_models
from qtlite.export import load_safetensors
from qtlite.quantum_train import QuantumTrain

Config = dict[str, Any]
Data = str | os.PathLike | None


@dataclass(frozen=True)
class Row:
    """One row of a table: a dataset and L, a seed, and the folders of trained models and images."""

    dataset: str
    n_blocks: int
    seed: int = 0
    runs: Path = Path("runs")
    data: Data = None

    def images(self) -> Dataset:
        """Return the dataset's images."""
        return load_dataset(self.dataset, self.data)

    def config(self, recipe: str = "qtlite", **changes: Any) -> TrainConfig:
        """Return a recipe's config for this row and its seed."""
        place = {"dataset": self.dataset, "n_blocks": self.n_blocks, "seed": self.seed}
        return recipe_config(recipe, **place | changes)

    def network(self, model: str) -> tuple[str, nn.Module]:
        """Return the id and the plain network of a model's finished run with the recipe ``qtlite``.

        Raises:
            ValueError: if there is none.
        """
        blocks = {} if model == "qt" else {"n_blocks": TrainConfig.n_blocks}
        folder = finished_run(self.runs, self.config(model=model, **blocks))
        network = paper_cnn(self.dataset)
        load_safetensors(network, folder / NETWORK)
        return folder.name, network.eval()

    def models(
        self, n_seeds: int
    ) -> Iterator[tuple[str, QuantumTrain, Callable[..., tuple[float, float]]]]:
        """Yield the trained models, each with its record's id and its test.

        A test takes a plain network and returns loss (nats) and accuracy on all test images.
        """
        images = self.images()
        test = partial(evaluate, images=images.test_images, labels=images.test_labels)
        found = trained_models(self.runs, self.dataset, self.n_blocks, at_most=n_seeds)
        for name, (config, model) in found.items():
            yield name, model, partial(test, config=config)


@dataclass(frozen=True)
class Study:
    """A function that measures; its defaults are the settings that the book quotes.

    To add a study, add a module to this package that ends with ``STUDY = Study(...)``.

    Args:
        name: on the command line, and of the file in ``book/measurements``.
        measure: takes a ``row``, if the study is about one, and settings with defaults; returns
            plain JSON types.
        derived: settings without default, from the row; also a seed other than 0.
    """

    name: str
    measure: Callable[..., Any]
    derived: Callable[[Row], Config] = lambda row: {}

    def config(self, row: Row) -> Config:
        """Return everything that decides the results, as plain JSON types."""
        defaults = {p.name: p.default for p in signature(self.measure).parameters.values()}
        place = {"dataset": row.dataset, "n_blocks": row.n_blocks, "seed": row.seed}
        start = place if defaults.pop("row", None) else {}
        return json.loads(json.dumps(start | defaults | self.derived(row)))


def studies() -> dict[str, Study]:
    """Return the studies of this package's modules by name.

    Example:
        >>> sorted(studies())[:3]
        ['confusion', 'entanglement', 'gradient']
    """
    places = iter_modules(import_module(__package__).__path__, f"{__package__}.")
    found = [value for place in places for value in vars(import_module(place.name)).values()]
    return {study.name: study for study in found if isinstance(study, Study)}


def run_study(
    name: str, dataset: str = "mnist", n_blocks: int = 16, *, runs: Path, data: Data = None
) -> dict[str, Any]:
    """Run a study with the settings that the book quotes, and return its measurement.

    Args:
        name: one of ``studies``.
        dataset, n_blocks: the row, for studies about one, such as "shots".
        runs: folder of trained models, see ``trained_models``.
        data: folder of images, see ``load_dataset``.

    Raises:
        ValueError: if the name is unknown, ``n_blocks`` below 1, or no run fits.
    """
    if name not in studies():
        raise ValueError(f"name must be one of {tuple(studies())}, got {name!r}")
    if n_blocks < 1:
        raise ValueError(f"n_blocks must be at least 1, got {n_blocks}")
    study, row = studies()[name], Row(dataset, n_blocks, 0, runs, data)
    config = study.config(row)
    if "dataset" not in config:
        return take_measurement(name, study.measure, config)

    def measure(dataset: str, n_blocks: int, seed: int, **settings: Any) -> Any:
        return study.measure(replace(row, seed=seed), **settings)

    return take_measurement(f"{name}-{dataset}-L{n_blocks}", measure, config)
