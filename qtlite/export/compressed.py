"""The compressed form: not the weights, but the angles and the mapping net that generate them.

The circuit runs once more when the file is loaded. On the machine and with the versions that wrote
the file, the weights are the same bit for bit. Elsewhere (another processor, another version of
PyTorch) sums may be done in another order, and weights differ by about 1e-6 of their size.
A fingerprint in the file, compared within a tolerance, refuses any other weights.
"""

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.export.atomic import atomic_write
from qtlite.export.checks import check_finite, check_tensors, prepare, reading
from qtlite.export.safetensors_file import check_types, read_metadata, write_sealed
from qtlite.inject import weight_shapes
from qtlite.mapping import FEATURES, MappingNet, qubits_needed
from qtlite.normalisation import Normalisation, WeightScale
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

_MAP = "quantum_train"  # the metadata entry that says how to build the map from angles to weights
_TOLERANCE = 1e-3  # of fingerprints, relative to a tensor's norm; rounding is below 1e-5

Count = Annotated[int, Meta(ge=1, le=10_000)]  # a file of 1 MB could hold 250,000 blocks


class _Options(Struct, forbid_unknown_fields=True):
    n_blocks: Count
    angles_per_block: Count
    hidden: Annotated[list[Count], Meta(max_length=100)]
    activation: str
    feature: str
    bit_values: tuple[float, float]
    normalisation: str
    center_feature: bool = False
    center_output: bool = False
    simulator: str = "auto"


class _Map(Struct):
    block: str
    shapes: dict[str, list[int]]
    scales: dict[str, WeightScale]
    options: _Options
    fingerprint: dict[str, list[float]] | None = None  # None in files of earlier versions


def save_compressed(
    model: QuantumTrain,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    block: Block = ry_linear_cnot,
    overwrite: bool = False,
) -> Path:
    """Write what a trained model needs to generate its weights, load it and compare every bit.

    Args:
        model: trained; its target's own parameters and buffers (BatchNorm statistics, what
            ``names`` left out) go into the file with the angles and the mapping net.
        block: the model's block of gates. The file holds its name, not its code.
        path, metadata, overwrite: as for ``save_safetensors``.

    Raises:
        ValueError: if the model is no ``QuantumTrain``, its block is another, its probabilities
            come from anything but a ``QNN``, its mapping net or feature is not the library's own,
            or it has NaN in its weights.
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
    if not isinstance(model, QuantumTrain):
        raise ValueError(f"model must be a QuantumTrain, got {type(model).__name__}")
    header = prepare(model, metadata, "safetensors", plain=False)
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
    with torch.no_grad():
        before = model.weights()
    # copies, since the format refuses tensors that share memory
    tensors = {name: t.detach().contiguous().clone() for name, t in model.state_dict().items()}
    header[_MAP] = msgspec.json.encode(_describe(model, before)).decode()
    with atomic_write(path, overwrite) as unfinished:
        write_sealed(save_file, tensors, unfinished, header)
        again, _ = load_compressed(unfinished, target, block=block)
        with torch.no_grad():
            check_tensors(before, again.to(model.qnn.angles.device).weights())
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
        ValueError: if the file is damaged, no such file, of another target or block, or generates
            other weights than those it was written with.
        FileNotFoundError: if there is no such file.
    """
    metadata = read_metadata(path)
    from safetensors.torch import load_file

    with reading(path, "be a file of save_compressed's"):
        stored = msgspec.json.decode(metadata.pop(_MAP, "null"), type=_Map)
        tensors = load_file(path)
        _check_size(stored.options, tensors)
    if _name(block) != stored.block:
        raise ValueError(f"block must be {stored.block!r} as in {path}, got {_name(block)!r}")
    with reading(path, "be the network of the file", "target"):
        for name, shape in weight_shapes(target, list(stored.shapes)).items():
            if stored.shapes[name] != list(shape):
                raise ValueError(f"{name!r} of shape {list(shape)} for {stored.shapes[name]}")
        model = _build(stored, target, block)
        # files of earlier versions say their centres among the scales only
        tensors.setdefault("normalise._extra_state", model.normalise.get_extra_state())
        check_types(model, tensors)
        model.load_state_dict(tensors)
        if model.normalise.scales != stored.scales:
            raise ValueError("its scales and its tensors have other centres")
    with reading(path, "generate the weights that it was written with"), torch.no_grad():
        weights = model.weights()
        check_finite((*model.named_parameters(), *weights.items()), "file")
        given = stored.fingerprint
        for name, weight in weights.items() if given is not None else ():
            limit = _TOLERANCE * weight.double().norm()
            for ours, theirs in zip(_fingerprint(weight), given[name], strict=True):
                if abs(ours - theirs) > limit:
                    raise ValueError(f"{name!r} differs")
    return model.eval(), metadata


def _check_size(options: _Options, tensors: Mapping[str, Tensor]) -> None:
    """Check that the file holds as many numbers as the model is going to, before it is built."""
    n_mapping = sum(a * b for a, b in pairwise([1, *options.hidden, 1]))
    n_numbers = options.n_blocks * options.angles_per_block + n_mapping
    if n_numbers > (found := sum(tensor.numel() for tensor in tensors.values())):
        raise ValueError(f"options ask for {n_numbers} numbers, and the file has {found}")


def _build(stored: _Map, target: nn.Module, block: Block) -> QuantumTrain:
    """Make the model that ``_describe`` described, with numbers still to be loaded."""
    shapes = {name: torch.Size(shape) for name, shape in stored.shapes.items()}
    n_qubits, options = qubits_needed(sum(s.numel() for s in shapes.values())), stored.options
    if options.feature not in FEATURES or options.center_feature or options.center_output:
        raise ValueError(f"options ask for a feature other than {tuple(FEATURES)}")
    start = {"generator": torch.Generator()}  # overwritten; the global one stays as it is
    gates = {"block": block, "angles_per_block": options.angles_per_block}
    qnn = QNN(n_qubits, options.n_blocks, **gates, **start)
    choices = {"activation": options.activation, "bit_values": options.bit_values}
    net = MappingNet(n_qubits, options.hidden, **choices, **start)
    rest = {"feature": options.feature, "normalisation": options.normalisation}
    model = QuantumTrain(target, qnn=qnn, mapping=net, names=list(shapes), **rest)
    # a fresh target's scales differ if the file's was trained before
    model.normalise = Normalisation(shapes, stored.scales, options.normalisation)
    return model


def _describe(model: QuantumTrain, weights: Mapping[str, Tensor]) -> _Map:
    net = model.mapping
    options = _Options(
        n_blocks=model.qnn.n_blocks,
        angles_per_block=model.qnn.angles.shape[1],
        hidden=list(net.hidden),
        activation=net.activation,
        feature=model.feature.__name__,
        bit_values=net.bit_values,
        normalisation=model.normalise.scheme,
    )
    return _Map(
        block=_name(model.qnn.block),
        shapes={name: list(shape) for name, shape in model.normalise.shapes.items()},
        scales=model.normalise.scales,
        options=options,
        fingerprint={name: _fingerprint(tensor) for name, tensor in weights.items()},
    )


def _fingerprint(tensor: Tensor) -> list[float]:
    """Project a tensor on three fixed vectors: other weights have other projections."""
    flat = tensor.detach().double().flatten().cpu()
    places = torch.arange(len(flat), dtype=torch.float64)
    return [float(flat @ torch.cos(rate * places)) for rate in (0.0, 1.0, 2.0)]


def _name(block: Block) -> str:
    return getattr(block, "__name__", repr(block))
