"""The controls as data: one entry each, which every other module reads.

A control is another source of the same weights, with as many trained parameters as the circuit and
its mapping net. Adding one is an entry here, and its builder in ``models/controls.py``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """What there is to know about a control without building it.

    Attributes:
        description: what generates the weights, in a few words.
        full_matrix_rate, adam_rate: peak learning rate with each optimiser at batch size 128,
            chosen on 5,000 held-out images of MNIST (``qtlite sweep choices``), at L = 16 with
            full-matrix Adam and at L = 121 with Adam.
        is_circuit: whether it trains a circuit's angles, whose rate falls with the root of L.
    """

    description: str
    full_matrix_rate: float
    adam_rate: float
    is_circuit: bool = False


CONTROLS: dict[str, Control] = {
    "frozen_circuit": Control(
        "circuit with random angles that are never trained; larger mapping net", 0.0125, 0.03
    ),
    "frozen_noise": Control(
        "noise drawn once in place of the probabilities; larger mapping net", 0.005, 0.03
    ),
    "bits_only": Control("larger mapping net that sees no probabilities", 0.0125, 0.03),
    "no_entanglement": Control("the circuit without its CNOTs", 0.0125, 0.0825, is_circuit=True),
    "trainable_vector": Control(
        "N L trained numbers in place of the circuit, each read by many basis states", 0.03, 0.08
    ),
    "random_subspace": Control(
        "random start plus a random matrix times trained numbers (Li et al. 2018)", 1.25, 0.2
    ),
    "hashed": Control("weights share trained values at random (Chen et al. 2015)", 0.08, 0.5),
    "hypernetwork": Control(
        "mapping net of three equally wide layers that sees no probabilities", 0.005, 0.08
    ),
    "small_cnn": Control("smaller CNN, each weight trained", 0.08, 3.0),
}

# Two more, which ask at one size what the mapping net needs of the circuit's probabilities. The
# table of the nine would otherwise have empty columns. Their rates were
# tried at L = 16 only, in 5 epochs; those of Adam are not tried.
PROBABILITY_CONTROLS: dict[str, Control] = {
    "shuffled": Control(
        "the circuit, whose probabilities are permuted once before training",
        0.005,
        0.015,
        is_circuit=True,
    ),
    "matrix_product_state": Control(
        "a trained matrix product state in place of the circuit", 0.0125, 0.03
    ),
}
ALL_CONTROLS = CONTROLS | PROBABILITY_CONTROLS

# dataset and L of the QT rows that the controls are compared with
CONTROL_ROWS = (
    ("mnist", 16),
    ("mnist", 61),
    ("mnist", 121),
    ("fashion_mnist", 16),
    ("fashion_mnist", 121),
)
