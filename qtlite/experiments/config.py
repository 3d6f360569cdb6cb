"""TrainConfig, which describes a run completely."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from qtlite.experiments.ansaetze import ANSAETZE
from qtlite.experiments.controls import ALL_CONTROLS
from qtlite.experiments.data.catalogue import DATASETS, is_own
from qtlite.mapping import ACTIVATIONS, FEATURES
from qtlite.normalisation import SCHEMES

MODELS = ("qt", "classical", "qcml", *ALL_CONTROLS)
RECIPE_NAMES = ("qtlite", "thorough", "literal", "released")
AUGMENTATIONS = ("none", "mirror")
OPTIMISERS = ("adam", "full_matrix_adam")
SCHEDULES = ("constant", "one_cycle", "plateau")
BITS = {"zero_one": (0.0, 1.0), "minus_plus": (-1.0, 1.0)}

MAX_COUNT = 10**9
MAX_SEED = 10**12  # a million times it must fit in the 64 bits of PyTorch's seeds
SMALLEST, LARGEST = 1e-30, 1e30  # a square of any number between them is one in float64


def _option(default: Any, description: str, allowed: tuple[Any, ...] | None = None) -> Any:
    """A field: its default, its help on the command line, and its choices or its two limits."""
    are_choices = allowed is not None and isinstance(allowed[0], str)
    choices, limits = (allowed, None) if are_choices else (None, allowed)
    return field(
        default=default, metadata={"help": description, "choices": choices, "limits": limits}
    )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run's result on one machine; a record stores all of it.

    The defaults are the ``qtlite`` recipe for digits; ``recipe_config`` fills in the others. An
    older record may lack a field: it had the default.

    Raises:
        ValueError: if a value is unknown, of another type or out of range.

    Example:
        >>> TrainConfig(n_blocks=0)
        Traceback (most recent call last):
        ValueError: n_blocks must be between 1 and 100000, got 0
    """

    dataset: str = _option("digits", "images to classify", DATASETS)
    model: str = _option(
        "qt",
        "qt generates the weights; classical is the baseline, which trains them directly; the "
        "others are comparison models",
        MODELS,
    )
    recipe: str = _option("qtlite", "named set of choices that the values come from", RECIPE_NAMES)
    n_blocks: int = _option(
        16, "L, blocks of the circuit (a control has as many parameters)", (1, 100_000)
    )
    block: str = _option(
        "ry_linear_cnot", "the ansatz: gates of one block of the circuit", tuple(ANSAETZE)
    )
    seed: int = _option(0, "of the random start and of the order of images", (-MAX_SEED, MAX_SEED))

    # the target network and its images
    relu: bool = _option(True, "ReLU after each hidden layer of the target")
    pixel_mean: float = _option(0.3051, "subtracted from pixels in [0, 1]", (-LARGEST, LARGEST))
    pixel_std: float = _option(0.3233, "divides the pixels after that", (SMALLEST, LARGEST))

    # from angles to weights
    angle_range: float = _option(
        3.141592653589793, "angles start uniform in +-this, radians", (0, LARGEST)
    )
    feature: str = _option(
        "scaled", "function of the probability that enters the mapping net", (*FEATURES, "released")
    )
    bits: str = _option(
        "minus_plus", "values of bits 0 and 1 in the mapping net's input", tuple(BITS)
    )
    center_feature: bool = _option(False, "subtract the feature's mean over the M states")
    hidden: tuple[int, ...] = _option(
        (4, 20, 4), "widths of the mapping net's hidden layers", (1, 10_000)
    )
    activation: str = _option(
        "all", "hidden layers of the mapping net that end in tanh", ACTIVATIONS
    )
    center_output: bool = _option(False, "subtract the mean of the generated numbers")
    normalisation: str = _option("row", "of the generated numbers", SCHEMES)
    weight_gain: float = _option(
        2**0.5, "standard deviation of normalised weights times sqrt(fan-in)", (1e-6, 1e6)
    )

    # optimisation of the cross-entropy
    optimiser: str = _option(
        "adam", "adam for each parameter; full_matrix_adam in the basis of E[g g^T]", OPTIMISERS
    )
    refresh_every: int = _option(
        50, "steps between updates of full_matrix_adam's basis", (1, MAX_COUNT)
    )
    epochs: int = _option(20, "passes over the training images", (1, MAX_COUNT))
    batch_size: int = _option(128, "images in a training step", (1, MAX_COUNT))
    learning_rate: float = _option(
        0.015, "of Adam; the peak of a one-cycle schedule", (SMALLEST, LARGEST)
    )
    schedule: str = _option("one_cycle", "of the learning rate", SCHEDULES)
    weight_decay: float = _option(0.0, "Adam's L2 penalty", (0, LARGEST))
    adam_eps: float = _option(1e-8, "Adam's epsilon", (SMALLEST, LARGEST))

    # few bits: training ends on a grid around a start that other languages can draw too
    grid: tuple[int, ...] = _option(
        (),
        "steps of trained numbers, in 1/1024: angles (radians) of the first and of the last block, "
        "then layer by layer",
        (1, 1020),
    )
    rounding_epochs: int = _option(
        0, "last epochs, in which numbers are rounded to the grid", (0, MAX_COUNT)
    )
    pull: float = _option(
        0.0, "to the start: weight in the loss of the integers' code length, nats", (0, LARGEST)
    )

    # which images
    augmentation: str = _option(
        "none", "of training images; mirror swaps left and right at random", AUGMENTATIONS
    )
    n_train: int | None = _option(None, "use only the first n training images", (1, MAX_COUNT))
    n_validation: int = _option(
        0,
        "hold out the last n training images and evaluate on them, not on the test images",
        (0, MAX_COUNT),
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            name, value, default = option.name, getattr(self, option.name), option.default
            if value is None and default is None:
                continue
            kind = int if default is None else type(default)
            if type(value) not in ((float, int) if kind is float else (kind,)):
                raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
            choices, limits = option.metadata["choices"], option.metadata["limits"]
            own = name == "dataset" and is_own(value)
            if choices is not None and value not in choices and not own:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
            if limits is None:
                continue
            low, high = limits
            if kind is tuple:
                if not all(type(width) is int and low <= width <= high for width in value):
                    raise ValueError(
                        f"{name} must hold whole numbers between {low} and {high}, got {value}"
                    )
            elif not low <= value <= high:  # nan is not, either
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")
        if self.model != "qt" and self.block != TrainConfig.block:
            raise ValueError(
                f"block must be {TrainConfig.block!r} unless model is 'qt', got {self.block!r}"
            )
        if self.optimiser == "full_matrix_adam" and self.weight_decay != 0:
            raise ValueError(
                f"weight_decay must be 0 with full_matrix_adam, got {self.weight_decay}"
            )
        if (len(self.grid) >= 2) != (self.rounding_epochs > 0) or len(self.grid) == 1:
            raise ValueError(
                "grid must have two steps or more if rounding_epochs is positive, otherwise none, "
                f"got {self.grid} and {self.rounding_epochs}"
            )
        if self.pull and not self.grid:
            raise ValueError(f"pull must be 0 without a grid, got {self.pull}")
        if self.grid and (self.optimiser != "full_matrix_adam" or self.model == "classical"):
            raise ValueError(
                "grid must be empty unless optimiser is 'full_matrix_adam' and weights are "
                f"generated, got {self.grid} with {self.optimiser} and model {self.model}"
            )
        if self.rounding_epochs > self.epochs:
            raise ValueError(
                f"rounding_epochs must be at most {self.epochs}, got {self.rounding_epochs}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a config from what ``to_dict`` returned; fields left out have their defaults.

        Raises:
            ValueError: if it is no dictionary, a key is no field of a config, or a value is wrong.
        """
        if not isinstance(values, dict):
            raise ValueError(f"config must be a dictionary, got {values!r}")
        known = {option.name for option in fields(cls)}
        if unknown := sorted(set(values) - known, key=str):
            raise ValueError(f"config must have fields of TrainConfig only, got {unknown}")
        values = dict(values)
        for name in ("hidden", "grid"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)
