"""The same numbers as the method's, sooner. Only ``qtlite.acceleration`` imports this package."""

import torch

from qtlite.engine.circuit import expectations as expectations
from qtlite.engine.circuit import prepare_circuit as prepare_circuit
from qtlite.engine.circuit import probabilities as probabilities
from qtlite.engine.mapping import map_column as map_column
from qtlite.engine.normalisation import normalise as normalise
from qtlite.engine.normalisation import prepare_normalisation as prepare_normalisation


def in_transformation() -> bool:
    """True inside torch.func.grad, vmap and the like, which take no custom autograd function."""
    return torch._C._are_functorch_transforms_active()
