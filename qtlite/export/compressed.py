"""The compressed form: not the weights, but the angles and the mapping net that generate them.

The circuit is run once more when the file is loaded. On the machine and with the versions that
wrote the file, the weights come out bit for bit as they were. Elsewhere (another processor,
another version of PyTorch) sums may be done in another order, and the weights then differ by
rounding: about 1e-6 of their size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.export.new_file import check_metadata, new_file, require
from qtlite.export.safetensors_file import read_metadata, sort_header
from qtlite.export.seal import OPEN_SEAL, seal_file
from qtlite.inject import count_weights, weight_shapes
from qtlite.mapping import FEATURES, MappingNet, qubits_needed
from qtlite.normalisation import Normalisation, WeightScale
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

_MAP = "quantum_train"  # the metadata entry that says how to build the map from angles to weights


def save_compressed(
    model: QuantumTrain,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    block: Block = ry_linear_cnot,
    overwrite: bool = False,
) -> Path:
    """Write what a trained model needs to generate its weights; load it and compare every bit.

    Args:
        model: trained; its target's own parameters and buffers (BatchNorm statistics, what
            ``names`` left out) go into the file with the angles and the mapping net.
        path: where to write.
        metadata: strings to keep in the file's header.
        block: the model's block of gates. The file holds its name, not its code.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the block is another than the model's, its probabilities come from anything
            but a ``QNN``, or its mapping net or feature is not the library's own.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the model's weights; it is not kept.

    Example:
        >>> import tempfile
        >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_compressed(model, Path(folder) / "a.safetensors")
        ...     again, _ = load_compressed(path, nn.Linear(10, 5))
        >>> torch.equal(again.to_classical().weight, model.to_classical().weight)
        True
    """
    check_metadata(metadata)
    require("safetensors")
    from safetensors.torch import save_file

    if type(model.qnn) is not QNN:
        raise ValueError(
            f"model must get its probabilities from a QNN, got {type(model.qnn).__name__}"
        )
    if type(model.mapping) is not MappingNet or model.feature not in FEATURES.values():
        raise ValueError(
            f"model must have a MappingNet and a feature of {tuple(FEATURES)}, got "
            f"{type(model.mapping).__name__} and {_name(model.feature)!r}"
        )
    if model.qnn.block is not block:
        raise ValueError(
            f"block must be the model's own {_name(model.qnn.block)!r}, got {_name(block)!r}"
        )
    target, dtype = model._template[0], model.qnn.angles.dtype
    own = target.get_parameter(next(iter(model.normalise.shapes))).dtype
    if dtype != own:
        raise ValueError(f"model must have its target's precision {own}, got {dtype}")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    notes = {**(metadata or {}), _MAP: json.dumps(_describe(model)), "seal": OPEN_SEAL}
    with new_file(path, overwrite) as unfinished:
        save_file(tensors, unfinished, notes)
        sort_header(unfinished)
        seal_file(unfinished)
        again, _ = load_compressed(unfinished, target, block=block)
        with torch.no_grad():
            before, after = model.weights(), again.to(model.qnn.angles.device).weights()
        if not all(torch.equal(tensor, after[name]) for name, tensor in before.items()):
            raise RuntimeError("the written file must generate the model's weights, got others")
    return Path(path)


def load_compressed(
    path: str | os.PathLike, target: nn.Module, *, block: Block = ry_linear_cnot
) -> tuple[QuantumTrain, dict[str, str]]:
    """Read what ``save_compressed`` wrote; ``.to_classical()`` of it is the plain network.

    Args:
        path: the file.
        target: a network of the structure that was trained; its values do not matter.
        block: the block of gates that it was trained with.

    Returns:
        The trained model, and the file's metadata.

    Raises:
        ValueError: if the file is damaged, no such file, or of another target or block.
        FileNotFoundError: if there is no such file.
    """
    metadata = read_metadata(path)
    from safetensors.torch import load_file

    if _MAP not in metadata:
        raise ValueError(f"path must be a file of save_compressed's, got {path}")
    try:
        given = json.loads(metadata.pop(_MAP))
        shapes = {name: torch.Size(shape) for name, shape in given["shapes"].items()}
        scales = {name: WeightScale(**scale) for name, scale in given["scales"].items()}
        options = given["options"]
        written_block = given["block"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"path must be a file of save_compressed's, got {path}") from error
    if _name(block) != written_block:
        raise ValueError(f"block must be {written_block!r} as in the file, got {_name(block)!r}")
    if weight_shapes(target, list(shapes)) != shapes:
        raise ValueError(
            f"target must have the file's parameters {list(shapes)} in their shapes, "
            f"got {type(target).__name__} with others"
        )
    model = _build(target, shapes, scales, block, options)
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"target must be the network of the file, got: {error}") from error
    return model.eval(), metadata


def _build(
    target: nn.Module,
    shapes: Mapping[str, torch.Size],
    scales: Mapping[str, WeightScale],
    block: Block,
    options: Mapping[str, object],
) -> QuantumTrain:
    """A model of the file's options; its start is overwritten by the file's tensors."""
    generator = torch.Generator()  # the global one stays as it is
    n_qubits = qubits_needed(count_weights(shapes))
    n_blocks, n_angles = options["n_blocks"], options["angles_per_block"]
    net = MappingNet(
        n_qubits,
        options["hidden"],
        activation=options["activation"],
        bit_values=options["bit_values"],
        generator=generator,
    )
    model = QuantumTrain(
        target,
        qnn=QNN(n_qubits, n_blocks, block=block, angles_per_block=n_angles, generator=generator),
        mapping=net,
        names=list(shapes),
        feature=options["feature"],
        normalisation=options["normalisation"],
    )
    # those of a fresh target differ if the model's was trained before
    model.normalise = Normalisation(shapes, scales, options["normalisation"])
    return model


def _describe(model: QuantumTrain) -> dict[str, object]:
    options = {
        "n_blocks": model.qnn.n_blocks,
        "angles_per_block": model.qnn.angles.shape[1],
        "hidden": list(model.mapping.hidden),
        "activation": model.mapping.activation,
        "feature": model.feature.__name__,
        "bit_values": list(model.mapping.bit_values),
        "normalisation": model.normalise.scheme,
    }
    return {
        "block": _name(model.qnn.block),
        "shapes": {name: list(shape) for name, shape in model.normalise.shapes.items()},
        "scales": {name: asdict(scale) for name, scale in model.normalise.scales.items()},
        "options": options,
    }


def _name(block: Block) -> str:
    return getattr(block, "__name__", repr(block))
