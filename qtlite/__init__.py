"""qtlite: Quantum-Train (Liu et al. 2024, arXiv 2405.11304) for any PyTorch network."""

from qtlite.acceleration import plain as plain
from qtlite.circuit import build_circuit as build_circuit
from qtlite.circuit import ry_linear_cnot as ry_linear_cnot
from qtlite.mapping import MappingNet as MappingNet
from qtlite.mapping import mapping_inputs as mapping_inputs
from qtlite.qnn import QNN as QNN
from qtlite.quantum_train import QuantumTrain as QuantumTrain

__version__ = "0.1.0"
