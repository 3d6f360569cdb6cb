"""Build the untrained model of a config, and the plain network of a trained model."""

import torch
from torch import nn

from qtlite.experiments.ansaetze import ANSAETZE
from qtlite.experiments.config import BITS, TrainConfig
from qtlite.experiments.models.controls import build_control
from qtlite.experiments.models.qcml import QCML
from qtlite.experiments.models.released import FEATURES, CentredMappingNet, centred
from qtlite.experiments.models.seeded import seeded_start
from qtlite.experiments.models.targets import paper_cnn
from qtlite.inject import weight_shapes
from qtlite.mapping import MappingNet, qubits_needed
from qtlite.qnn import QNN
from qtlite.quantum_train import GeneratedNetwork, QuantumTrain


def build_model(config: TrainConfig) -> nn.Module:
    """Build the untrained model of a config; its random start depends only on the seed.

    Example:
        >>> build_model(TrainConfig(n_blocks=16)).n_trainable
        457
    """
    model = _build(config)
    if config.grid:
        seeded_start(model, config.seed)
    return model


def _build(config: TrainConfig) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # PyTorch's layers draw from its global generator
        torch.manual_seed(config.seed)
        if config.model == "qcml":
            return QCML(config.dataset, relu=config.relu)
        target = paper_cnn(config.dataset, relu=config.relu)
    if config.model == "classical":
        return target
    shared = {
        "hidden": config.hidden,
        "activation": config.activation,
        "normalisation": config.normalisation,
        "weight_gain": config.weight_gain,
        "generator": torch.Generator().manual_seed(config.seed),
    }
    if config.model != "qt":
        return build_control(config.model, target, config.n_blocks, **shared)
    n_weights = sum(shape.numel() for shape in weight_shapes(target).values())
    n_qubits, generator = qubits_needed(n_weights), shared["generator"]
    block, angles_per_qubit = ANSAETZE[config.block]
    gates = {"block": block, "angles_per_block": angles_per_qubit * n_qubits}
    start = {"angle_range": config.angle_range, "generator": generator}
    qnn = QNN(n_qubits, config.n_blocks, **gates, **start)
    choices = {"activation": config.activation, "bit_values": BITS[config.bits]}
    mapping_net = CentredMappingNet if config.center_output else MappingNet
    net = mapping_net(n_qubits, config.hidden, **choices, generator=generator)
    feature = FEATURES[config.feature]
    if config.center_feature:
        feature = centred(feature, n_weights)
    weights = {"normalisation": config.normalisation, "weight_gain": config.weight_gain}
    return QuantumTrain(target, qnn=qnn, mapping=net, feature=feature, **weights)


def classical(model: nn.Module) -> nn.Module:
    """Return the plain network of a trained model: itself, unless its weights are generated."""
    return model.to_classical() if isinstance(model, GeneratedNetwork) else model
