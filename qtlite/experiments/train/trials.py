"""The lists of runs behind the tables and figures, by name, and lists that a user writes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.controls import CONTROL_ROWS, CONTROLS, PROBABILITY_CONTROLS
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import WEIGHT_DECAY, recipe_config
from qtlite.export.schema import in_one_line, read_json

Changes = dict[str, Any]  # fields of TrainConfig
Trials = dict[str, Changes]  # what changes, in words, and the changes
Run = tuple[str, str, Changes]  # recipe, dataset, changes; the seed is added

PAPER_TABLES = {"table1": "mnist", "table2": "fashion_mnist", "table3": "cifar10"}

# Learning rates to choose from: of each row's present rate, the next lower and the next higher.
CHOICE_LEARNING_RATES = (0.0008, 0.002, 0.005, 0.0125, 0.03, 0.08, 0.2, 0.5, 1.25, 3.0, 8.0, 20.0)
# Dataset, L, models and changes. The rates of the first row (full_matrix_adam) and of the second
# (Adam) are chosen. The next two take over such rates, and show whether others would be better: the
# circuit and the nearest controls at a depth between, and half the epochs of CIFAR-10. The last row
# chooses those of the controls of one size, with a quarter of the epochs.
CHOICE_ROWS: tuple[tuple[str, int, tuple[str, ...], Changes], ...] = (
    ("mnist", 16, ("qt", *CONTROLS), {}),
    ("mnist", 121, ("qt", *CONTROLS), {}),
    ("mnist", 61, ("qt", "hashed", "random_subspace", "hypernetwork"), {}),
    ("cifar10", 19, ("qt",), {"epochs": 10}),
    ("mnist", 16, tuple(PROBABILITY_CONTROLS), {"epochs": 5}),
)

MAX_SEEDS = 1000  # of a sweep
TRAINING_SIZES = (500, 2000, 5000, 10_000, 20_000, 40_000, 60_000)

# QT-16 on MNIST, with one choice of the recipe undone at a time
ABLATION: Trials = {
    "recipe": {},
    "raw feature": {"feature": "raw"},
    "released feature": {"feature": "released"},
    "bits 0 and 1": {"bits": "zero_one"},
    "tanh after the first layer": {"activation": "first"},
    "no tanh": {"activation": "none"},
    "weights scaled, rows not standardised": {"normalisation": "tensor"},
    "weights as generated": {"normalisation": "none"},
    "no ReLU in the network": {"relu": False},
    "pixels in [0, 1]": {"pixel_mean": 0.0, "pixel_std": 1.0},
    "constant learning rate": {"schedule": "constant"},
    "Adam": {"optimiser": "adam", "learning_rate": 0.015},
    "small angles at the start": {"angle_range": 0.1},
}

# QT-19 on CIFAR-10 with half the recipe's epochs and one choice changed at a time, at the recipe's
# learning rate: which changes would improve the recipe. As in all trials below, the accuracy is
# that on 5,000 held-out training images.
CIFAR_TRIAL: Changes = {"n_blocks": 19, "epochs": 10, "n_validation": 5000}
CIFAR_TRIALS: Trials = {
    "recipe": {},
    "four times as many epochs": {"epochs": 40},
    "batch size 500": {"batch_size": 500},
    "batch size 500, half the epochs": {"batch_size": 500, "epochs": 5},
    "batch size 250, half the epochs": {"batch_size": 250, "epochs": 5},
    "root feature": {"feature": "root"},
    **{
        change: ABLATION[change]
        for change in (
            "raw feature",
            "bits 0 and 1",
            "tanh after the first layer",
            "weights scaled, rows not standardised",
            "no ReLU in the network",
            "constant learning rate",
            "small angles at the start",
        )
    },
    "mirrored images": {"augmentation": "mirror"},
}

# Weight decay of the baseline CNN, which overfits CIFAR-10 without it: a lead of generated weights
# must not be due to an unregularised baseline. The best values are ``recipes.WEIGHT_DECAY``.
BASELINE_TRIAL: Changes = {"model": "classical", "n_validation": 5000}
DECAY_TRIALS: Trials = {
    "recipe": {},
    **{f"weight decay {x:g}": {"weight_decay": x} for x in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)},
}
LONG_DECAY_TRIALS: Trials = {  # with the recipe thorough, on CIFAR-10
    "recipe": {},
    **{f"weight decay {x:g}": {"weight_decay": x} for x in (1e-3, 3e-3, 1e-2, 3e-2)},
}

# Learning rate of the baseline CNN with the recipe thorough, on CIFAR-10
BASELINE_TRIALS: Trials = {
    "recipe": {},
    "half the learning rate": {"learning_rate": 0.0025},
    "a quarter": {"learning_rate": 0.00125},
}

# Learning rate of the hypernetwork as large as QT-323, with the recipe thorough, on CIFAR-10
HYPERNETWORK_TRIAL: Changes = {"model": "hypernetwork", "n_blocks": 323, "n_validation": 5000}
HYPERNETWORK_TRIALS: Trials = {
    "recipe": {},
    "MNIST's learning rate": {"learning_rate": 0.08},
    "a third of the learning rate": {"learning_rate": 0.01},
}

# The controls that come closest to the circuit also run with the recipe thorough.
THOROUGH_CONTROLS = {
    ("mnist", 121): ("hashed", "hypernetwork"),
    ("fashion_mnist", 121): ("hashed", "hypernetwork"),
    ("cifar10", 323): ("hashed", "hypernetwork", "frozen_circuit"),
}

# QT-121 on FashionMNIST with one choice of the recipe thorough changed at a time, and the learning
# rate of the baseline CNN: the recipe was chosen from these.
THOROUGH_TRIAL: Changes = {"n_blocks": 121, "n_validation": 5000}
THOROUGH_TRIALS: Trials = {
    "recipe": {},
    "batch size 128, half the epochs": {"batch_size": 128, "epochs": 50, "learning_rate": 0.00182},
    "batch size 64, half the epochs": {"batch_size": 64, "epochs": 50, "learning_rate": 0.00129},
    "scaled feature": {"feature": "scaled"},
    "Adam": {"optimiser": "adam", "learning_rate": 0.0078},
    "classical CNN": {"model": "classical"},
    "classical CNN, half the learning rate": {"model": "classical", "learning_rate": 0.00088},
    "classical CNN, a quarter": {"model": "classical", "learning_rate": 0.00044},
    "classical CNN, twice the learning rate": {"model": "classical", "learning_rate": 0.00354},
    "classical CNN, four times": {"model": "classical", "learning_rate": 0.00707},
    "classical CNN, eight times": {"model": "classical", "learning_rate": 0.01414},
}

# QT-121 on FashionMNIST with the 20 epochs of the recipe qtlite: whether more steps with smaller
# batches do what the recipe thorough does with 100 epochs.
SHORT_TRIAL: Changes = {"n_blocks": 121, "n_validation": 5000}
_ROOT: Changes = {"feature": "root"}
_FULL_MATRIX: Changes = {"feature": "root", "optimiser": "full_matrix_adam", "refresh_every": 200}
SHORT_TRIALS: Trials = {
    "recipe": {},
    "batch size 32": {"batch_size": 32, "learning_rate": 0.0029},
    "root feature, batch size 32": {"batch_size": 32, "learning_rate": 0.0029, **_ROOT},
    **{
        f"root feature, full matrix{more}": {**_FULL_MATRIX, **changes}
        for more, changes in {
            "": {"learning_rate": 0.00182, "refresh_every": 100},
            ", twice the learning rate": {"learning_rate": 0.0036},
            ", four times the learning rate": {"learning_rate": 0.0073},
            ", batch size 64": {"learning_rate": 0.00129, "batch_size": 64},
            ", batch size 32": {"learning_rate": 0.00091, "batch_size": 32},
            ", batch size 32, twice that rate": {"learning_rate": 0.0018, "batch_size": 32},
        }.items()
    },
}


def _with(recipe: str, dataset: str, *changes: Changes, **common: Any) -> list[Run]:
    """A recipe's runs with these changes, each on top of what all of them have in common."""
    return [(recipe, dataset, {**common, **own}) for own in changes]


def _choices() -> Iterator[Run]:
    """Learning rates of QT and of every control: the present one, the next lower, the next higher.

    If a neighbour is better, it becomes the recipe's rate and the sweep is run again, until both
    neighbours are worse. (Rows that take over their rates keep them.)
    """
    for dataset, n_blocks, models, changes in CHOICE_ROWS:
        for model in models:
            row = {"model": model, "n_blocks": n_blocks, "n_validation": 5000, **changes}
            present = recipe_config("qtlite", dataset, **row).learning_rate
            lower = max(rate for rate in CHOICE_LEARNING_RATES if rate < present / 1.5)
            higher = min(rate for rate in CHOICE_LEARNING_RATES if rate > present * 1.5)
            for rate in (present, lower, higher):
                yield "qtlite", dataset, {**row, "learning_rate": rate}


_DATASETS = tuple(PAPER_TABLES.values())

SWEEPS: dict[str, list[Run]] = {
    **{
        name: [
            ("qtlite", dataset, {"model": row.model, "n_blocks": row.n_blocks or 16})
            for row in TABLES[dataset]
        ]
        for name, dataset in PAPER_TABLES.items()
    },
    "qcml": [("qtlite", dataset, {"model": "qcml"}) for dataset in _DATASETS],
    "no-relu": [
        ("qtlite", dataset, {"model": "classical", "relu": False}) for dataset in _DATASETS
    ],
    "controls": [
        ("qtlite", dataset, {"model": model, "n_blocks": n_blocks})
        for dataset, n_blocks in CONTROL_ROWS
        for model in ("qt", *CONTROLS)
    ],
    "probability-controls": [
        ("qtlite", "mnist", {"model": model, "n_blocks": 16}) for model in PROBABILITY_CONTROLS
    ],
    "choices": list(_choices()),
    "ablation": _with("qtlite", "mnist", *ABLATION.values()),
    "cifar-trials": _with("qtlite", "cifar10", *CIFAR_TRIALS.values(), **CIFAR_TRIAL),
    "decay-trials": [
        *(
            run
            for d in _DATASETS
            for run in _with("qtlite", d, *DECAY_TRIALS.values(), **BASELINE_TRIAL)
        ),
        *_with("thorough", "cifar10", *LONG_DECAY_TRIALS.values(), **BASELINE_TRIAL),
    ],
    "decay": [
        (recipe, dataset, {"model": "classical", "weight_decay": decay})
        for recipe, decays in WEIGHT_DECAY.items()
        for dataset, decay in decays.items()
    ],
    "usual-trials": _with("thorough", "cifar10", *BASELINE_TRIALS.values(), **BASELINE_TRIAL),
    "hypernetwork-trials": _with(
        "thorough", "cifar10", *HYPERNETWORK_TRIALS.values(), **HYPERNETWORK_TRIAL
    ),
    "thorough-controls": [
        ("thorough", dataset, {"model": model, "n_blocks": n_blocks})
        for (dataset, n_blocks), models in THOROUGH_CONTROLS.items()
        for model in models
    ],
    "thorough-trials": _with(
        "thorough", "fashion_mnist", *THOROUGH_TRIALS.values(), **THOROUGH_TRIAL
    ),
    "short-trials": _with("qtlite", "fashion_mnist", *SHORT_TRIALS.values(), **SHORT_TRIAL),
    "generalization": [
        ("qtlite", "mnist", {"model": model, "n_blocks": n_blocks, **images})
        for images in [*({"n_train": n} for n in TRAINING_SIZES[:-1]), {}]
        for model, n_blocks in (("qt", 16), ("qt", 121), ("classical", 16))
    ],
}


def sweep_configs(
    name: str, recipes: Sequence[str] = ("qtlite",), n_seeds: int = 3
) -> list[TrainConfig]:
    """List the runs behind a table or a figure, all of a seed before the next seed.

    Args:
        name: one of ``SWEEPS``.
        recipes: for the paper's tables, the recipes to put beside the paper's column; the other
            sweeps name their own.
        n_seeds: seeds 0 ... n_seeds - 1.

    Raises:
        ValueError: if the name or a recipe is unknown or not for this sweep, or ``n_seeds`` is
            not between 1 and 1000.

    Example:
        >>> [config.n_blocks for config in sweep_configs("table1", n_seeds=1)[1:4]]
        [16, 31, 46]
    """
    if name not in tuple(SWEEPS):
        raise ValueError(f"name must be one of {tuple(SWEEPS)}, got {name!r}")
    if not (isinstance(n_seeds, int) and 1 <= n_seeds <= MAX_SEEDS):
        raise ValueError(
            f"n_seeds must be a whole number between 1 and {MAX_SEEDS}, got {n_seeds!r}"
        )
    if isinstance(recipes, str) or not isinstance(recipes, Sequence) or not recipes:
        raise ValueError(f"recipes must be a list of at least one name, got {recipes!r}")
    if name not in PAPER_TABLES and tuple(recipes) != ("qtlite",):
        raise ValueError(f"recipes must be ('qtlite',) for {name!r}, got {tuple(recipes)}")
    return [
        recipe_config(chosen if name in PAPER_TABLES else recipe, dataset, seed=seed, **changes)
        for seed in range(n_seeds)
        for chosen in recipes
        for recipe, dataset, changes in SWEEPS[name]
    ]


def read_configs(path: Path) -> list[TrainConfig]:
    """Read a list of runs from a file: ``[{"recipe": "qtlite", "dataset": "mnist", ...}, ...]``.

    Args:
        path: JSON; each entry has fields of ``TrainConfig``, the others are its recipe's.

    Raises:
        ValueError: if the file is not such a list, or an entry is wrong; the message says which.
    """
    configs = []
    for place, entry in enumerate(read_json(path, list[Changes], "a list of runs")):
        try:
            TrainConfig.from_dict(entry)  # checks the names; recipe_config fills in the others
            entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
            configs.append(recipe_config(entry.pop("recipe", "qtlite"), **entry))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"configs must be runs, got {path} whose entry {place}: {in_one_line(error)}"
            ) from error
    return configs
