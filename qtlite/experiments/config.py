"""What a run is: one frozen dataclass; the paper's, the authors' and our recipes in its terms."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any

from qtlite.experiments.data.loading import DATASETS
from qtlite.experiments.models.controls import CONTROLS
from qtlite.mapping import ACTIVATIONS, FEATURES
from qtlite.normalisation import SCHEMES

MODELS = ("qt", "classical", "qcml", *CONTROLS)
AUGMENTATIONS = ("none", "mirror")
OPTIMISERS = ("adam", "full_matrix_adam")
SCHEDULES = ("constant", "one_cycle", "plateau")
BITS = {"zero_one": (0.0, 1.0), "minus_plus": (-1.0, 1.0)}


def _option(default: Any, description: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field whose description is also the command line's help."""
    return field(default=default, metadata={"help": description, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run's result on one machine; stored whole in its record.

    The defaults are the ``qtlite`` recipe for digits; ``recipe_config`` fills in the others. A
    record that does not name a field is from before there was a choice, and had the default: Adam,
    and no augmentation.

    Raises:
        ValueError: if a value is unknown or out of range.
    """

    dataset: str = _option("digits", "images to classify", DATASETS)
    model: str = _option(
        "qt", "qt generates the weights, classical trains them; comparison models", MODELS
    )
    recipe: str = _option("qtlite", "named set of choices these values came from")
    n_blocks: int = _option(16, "L, blocks of the circuit (of a control: of the QT row beside it)")
    seed: int = _option(0, "of the start and of the order of images")

    # the target network and its images
    relu: bool = _option(True, "ReLU after each hidden layer of the CNN")
    pixel_mean: float = _option(0.3051, "subtracted from pixels in [0, 1]")
    pixel_std: float = _option(0.3233, "then divides them")

    # the map from angles to weights
    angle_range: float = _option(3.141592653589793, "angles start uniform in +-this, radians")
    feature: str = _option("scaled", "what the mapping net sees of p", FEATURES)
    bits: str = _option("minus_plus", "what stands for bits 0 and 1", tuple(BITS))
    center_feature: bool = _option(False, "subtract the feature's mean over the M states")
    hidden: tuple[int, ...] = _option((4, 20, 4), "widths of the mapping net's hidden layers")
    activation: str = _option(
        "all", "tanh after which hidden layers of the mapping net", ACTIVATIONS
    )
    center_output: bool = _option(False, "subtract the generated numbers' mean")
    normalisation: str = _option("row", "of generated weights", SCHEMES)
    weight_gain: float = _option(2**0.5, "scale of normalised weights times sqrt(fan-in)")

    # optimisation of the cross-entropy
    optimiser: str = _option(
        "adam", "Adam along each parameter, or in E[g g^T]'s basis", OPTIMISERS
    )
    refresh_every: int = _option(50, "steps between renewals of full_matrix_adam's basis")
    epochs: int = _option(20, "passes over the training images")
    batch_size: int = _option(128, "images a step")
    learning_rate: float = _option(0.015, "Adam's; the peak of a one-cycle schedule")
    schedule: str = _option("one_cycle", "of the learning rate", SCHEDULES)
    weight_decay: float = _option(0.0, "Adam's L2 penalty")
    adam_eps: float = _option(1e-8, "Adam's epsilon")

    # which images
    augmentation: str = _option(
        "none", "of training images: mirrored left to right at random", AUGMENTATIONS
    )
    n_train: int | None = _option(None, "use the first n training images alone")
    n_validation: int = _option(
        0, "hold out the last n training images and report on them, not on the test images"
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, choices = getattr(self, option.name), option.metadata["choices"]
            kind = int if option.default is None else type(option.default)
            kinds = (float, int) if kind is float else (kind,)
            if type(value) not in kinds and not (value is None and option.default is None):
                raise ValueError(f"{option.name} must be of type {kind.__name__}, got {value!r}")
            if choices is not None and value not in choices:
                raise ValueError(f"{option.name} must be one of {choices}, got {value!r}")
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {tuple(RECIPES)}, got {self.recipe!r}")
        for name in ("n_blocks", "epochs", "batch_size", "refresh_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "adam_eps", "pixel_std", "weight_gain"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("angle_range", "weight_decay"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not isfinite(self.pixel_mean):
            raise ValueError(f"pixel_mean must be finite, got {self.pixel_mean}")
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden must hold widths of at least 1, got {self.hidden}")
        if self.optimiser == "full_matrix_adam" and self.weight_decay != 0:
            raise ValueError(
                f"weight_decay must be 0 with full_matrix_adam, got {self.weight_decay}"
            )
        if self.n_train is not None and self.n_train < 1:
            raise ValueError(f"n_train must be at least 1, got {self.n_train}")
        if self.n_validation < 0:
            raise ValueError(f"n_validation must be at least 0, got {self.n_validation}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of ``to_dict``.

        Raises:
            ValueError: if a key is no field of a config.
        """
        known = {option.name for option in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"config must have fields of TrainConfig only, got {unknown}")
        values = dict(values)
        if "hidden" in values:
            values["hidden"] = tuple(values["hidden"])
        return cls(**values)


_LITERAL = {
    "relu": False,
    "pixel_mean": 0.0,
    "pixel_std": 1.0,
    "feature": "raw",
    "bits": "zero_one",
    "activation": "first",
    "normalisation": "none",
    "epochs": 50,
    "learning_rate": 1e-4,
    "schedule": "constant",
}

_RELEASED = {
    "relu": False,
    "pixel_mean": 0.5,
    "pixel_std": 0.5,
    "feature": "released",
    "center_feature": True,
    "activation": "none",
    "center_output": True,
    "normalisation": "none",
    "epochs": 50,
    "learning_rate": 1e-4,
    "schedule": "plateau",
    "weight_decay": 1e-5,
    "adam_eps": 1e-6,
}

# Where time is no object: 2.5 times as many steps as qtlite, of twice as many images on MNIST and
# FashionMNIST. Chosen at L = 121 on held-out images of the latter (`qtlite sweep thorough-trials`).
_THOROUGH = {"feature": "root", "epochs": 100, "batch_size": 256, "refresh_every": 200}

# Mean and standard deviation of the training images' pixels in [0, 1], all channels together.
PIXELS = {
    "mnist": (0.1307, 0.3081),
    "fashion_mnist": (0.2860, 0.3530),
    "cifar10": (0.4734, 0.2516),
    "digits": (0.3051, 0.3233),
}

# literal: the paper's words. released: the authors' code's choices on the paper's circuit.
# qtlite: ours. Its ingredients come from pilot runs judged on test images; what was chosen since,
# the optimiser and learning rates, on 5,000 held-out training images.
# thorough: qtlite with more time.
RECIPES: dict[str, dict[str, Any]] = {
    "qtlite": {},
    "thorough": _THOROUGH,
    "literal": _LITERAL,
    "released": _RELEASED,
}


def recipe_config(recipe: str, dataset: str = "digits", **changes: Any) -> TrainConfig:
    """Build a named recipe's config for a dataset, with changes on top.

    Args:
        recipe: "qtlite", "thorough", "literal" or "released".
        dataset: decides the mapping net's widths and the paper's budget.
        changes: fields of ``TrainConfig``.

    Raises:
        ValueError: if the recipe or a value is unknown.

    Example:
        >>> recipe_config("literal", "cifar10", n_blocks=19).epochs
        1000
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {tuple(RECIPES)}, got {recipe!r}")
    values = {"dataset": dataset, "recipe": recipe, **RECIPES[recipe]}
    ours = recipe in ("qtlite", "thorough")
    if ours and dataset in PIXELS:  # TrainConfig refuses other names
        values["pixel_mean"], values["pixel_std"] = PIXELS[dataset]
        n_blocks = changes.get("n_blocks", TrainConfig.n_blocks)
        full_matrix = dataset in ("mnist", "fashion_mnist") and (
            recipe == "thorough" or n_blocks <= MOST_BLOCKS_FULL_MATRIX
        )
        images = 128 if dataset == "cifar10" else values.get("batch_size", TrainConfig.batch_size)
        model = changes.get("model", "qt")
        values |= _optimisation(model, n_blocks, full_matrix, images)
        if (recipe, dataset, model) == ("thorough", "cifar10", "hypernetwork"):
            values["learning_rate"] = CIFAR_HYPERNETWORK_RATE
    if dataset == "cifar10":
        values["hidden"] = (40, 200, 40)
        values["batch_size"] = 1000
        if not ours:
            values["epochs"] = 1000
    return replace(TrainConfig(), **{**values, **changes})


# Peak learning rates from runs at full length on 5,000 held-out images of MNIST (`qtlite sweep
# choices`), at L = 16 with the full matrix and at L = 121 with Adam. FashionMNIST takes the same.
LEARNING_RATES = {
    "full_matrix_adam": {
        "qt": 0.005,
        "frozen_circuit": 0.0125,
        "frozen_noise": 0.005,
        "bits_only": 0.0125,
        "no_entanglement": 0.0125,
        "trainable_vector": 0.03,
        "random_subspace": 1.25,
        "hashed": 0.08,
        "hypernetwork": 0.005,
        "small_cnn": 0.08,
    },
    "adam": {
        "qt": 0.015,
        "frozen_circuit": 0.03,
        "frozen_noise": 0.03,
        "bits_only": 0.03,
        "no_entanglement": 0.0825,
        "trainable_vector": 0.08,
        "random_subspace": 0.2,
        "hashed": 0.5,
        "hypernetwork": 0.08,
        "small_cnn": 3.0,
    },
}

# The index net's on CIFAR-10 with the recipe thorough, beside QT-323: with MNIST's it learned badly
# on held-out images (`qtlite sweep hypernetwork-trials`).
CIFAR_HYPERNETWORK_RATE = 0.03

# Of the network trained as usual, by the images a step. The second is about the best in 100 epochs
# on held-out images of FashionMNIST (`qtlite sweep thorough-trials`). QCML takes the same.
USUAL_LEARNING_RATES = {128: 0.005, 256: 0.00177}

# Of the network trained as usual, beside a recipe, which has none: the best on held-out images
# (`qtlite sweep decay-trials`).
WEIGHT_DECAY = {
    "qtlite": {"mnist": 0.001, "fashion_mnist": 0.001, "cifar10": 0.003},
    "thorough": {"cifar10": 0.01},
}

# Of a trained circuit's angles, every step moves all L blocks at once: their rate falls with L.
TRAINED_CIRCUITS = ("qt", "no_entanglement")

# Of the recipe qtlite. Up to these blocks, so 652 parameters, the full matrix costs little; with
# 1,822 it was no better than Adam on held-out images of MNIST in so few steps.
MOST_BLOCKS_FULL_MATRIX = 31


def _optimisation(model: str, n_blocks: int, full_matrix: bool, images: int) -> dict[str, Any]:
    """Our recipes' optimiser and its learning rate.

    FashionMNIST and CIFAR-10 take MNIST's learning rates (but for CIFAR_HYPERNETWORK_RATE). A
    trained circuit's falls with the root of the number of blocks, one rule for all depths. MNIST's
    and FashionMNIST's grow with the root of the images a step; the network trained as usual has its
    own.
    """
    larger = (images / 128) ** 0.5
    if model in ("classical", "qcml"):
        return {"learning_rate": USUAL_LEARNING_RATES[images]}
    optimiser = "full_matrix_adam" if full_matrix else "adam"
    peak = LEARNING_RATES[optimiser].get(model, 0.005)  # TrainConfig refuses other names
    depth = max(n_blocks, 1) ** 0.5 if model in TRAINED_CIRCUITS else 4
    return {
        "optimiser": optimiser,
        "learning_rate": round(peak * larger * 4 / depth, 5 if full_matrix else 4),
    }
