"""PT2: the network as a graph of PyTorch operations (``torch.export``), without its Python code.

PyTorch's own reader trusts the file: it unpickles some parts and evaluates some strings. So the
archive is looked through first, and one that holds more than plain tensors and ordinary operations
is refused.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.export.new_file import check_metadata, check_outputs, new_file, one_output
from qtlite.generated import check_plain

_ABOUT = "qtlite.json"

# the archive's entries, below a folder of any name
_ENTRIES = re.compile(
    r"[^/]+/(data/weights/weight_\d+|data/weights/\w+_weights_config\.json"
    r"|data/constants/tensor_\d+|data/constants/\w+_constants_config\.json"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/qtlite\.json"
    r"|archive_format|archive_version|byteorder|\.data/\w+)"
)

# Strings of the graph end in generated Python code or in sympify, which evaluates. What these
# patterns let through cannot call anything but the functions named.
_PLAIN = re.compile(r"[\w.:+-]*")
_STRINGS = {
    "target": re.compile(
        r"torch\.ops\.aten\.\w+\.\w+"
        r"|_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)"
    ),
    "expr_str": re.compile(
        r"(Symbol\('\w+', positive=True, integer=True\)|Integer\(-?\d+\)"
        r"|(Mul|Add|Min|Max|Pow)\(|, |\))*"
    ),
    "in_spec": re.compile(r'[\w\[\]{}",.: ]*'),  # JSON, read as such
    "out_spec": re.compile(r'[\w\[\]{}",.: ]*'),
}


def save_torch_export(
    network: nn.Module,
    example: Tensor,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network as a .pt2 file, read it again and compare outputs.

    The batch may have any length. The network is written as it is in evaluation mode.

    Args:
        network: one tensor to one tensor; ``FromPixels`` to have the preprocessing in the file.
        example: inputs to trace with and to check with, shape (n, ...), n >= 2.
        path: where to write.
        metadata: strings to keep in the file.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the network or the example does not fit, or cannot be traced.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the network's outputs; it is not kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.pt2"
        ...     _ = save_torch_export(nn.Linear(3, 2), torch.randn(2, 3), path, {"by": "me"})
        ...     network, about = load_torch_export(path)
        >>> network(torch.zeros(7, 3)).shape, about
        (torch.Size([7, 2]), {'by': 'me'})
    """
    check_plain(network)
    check_metadata(metadata)
    network = copy.deepcopy(network).eval()
    example = example.clone()  # it goes into the file, and a slice would take all its images along
    expected = one_output(network, example)
    with new_file(path, overwrite) as unfinished:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's own insides
            try:
                shapes = ({0: torch.export.Dim("batch")},)
                program = torch.export.export(network, (example,), dynamic_shapes=shapes)
            except Exception as error:  # the exporter has many, without a common base
                raise ValueError(
                    f"network must be one that torch.export traces, got {type(network).__name__}: "
                    f"{str(error).splitlines()[0]}"
                ) from error
            for node in program.graph.nodes:  # where in our code each came from: not the reader's
                node.meta = {name: node.meta[name] for name in ("val",) if name in node.meta}
            # by a buffer: PyTorch insists on a name that ends in .pt2
            buffer = io.BytesIO()
            about = json.dumps(dict(metadata or {}))
            torch.export.save(program, buffer, extra_files={_ABOUT: about})
        unfinished.write_bytes(buffer.getvalue())
        again, _ = load_torch_export(unfinished)
        for n in (len(example), 1):
            check_outputs(expected[:n], again(example[:n]).detach())
    return Path(path)


def load_torch_export(path: str | os.PathLike) -> tuple[nn.Module, dict[str, str]]:
    """Read a .pt2 file of ``save_torch_export``'s.

    Returns:
        The network, in evaluation mode, and the file's metadata.

    Raises:
        ValueError: if the file is damaged, not one of qtlite's, or could run code.
        FileNotFoundError: if there is no such file.
    """
    content = Path(path).read_bytes()
    about = _look_through(content, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's own insides
            network = torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # whatever a file that was changed by hand brings up
        raise ValueError(f"path must be a whole .pt2 file, got {path}: {error}") from error
    return network, about


def _look_through(content: bytes, path: str | os.PathLike) -> dict[str, str]:
    """Raise unless reading the archive is a matter of plain numbers; returns the metadata."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        broken = archive.testzip()  # each entry against its CRC-32
        # a list: of two entries with one name PyTorch may take the other
        entries = [] if broken else [(e.filename, archive.read(e)) for e in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"path must be a whole .pt2 file, got {path}: {error}") from error
    if broken:
        raise ValueError(f"path must be a whole .pt2 file, got {path} with a damaged {broken}")
    for name, entry in entries:
        if not _ENTRIES.fullmatch(name):
            raise ValueError(f"path must be a .pt2 file of qtlite's, got {path} with {name}")
        try:
            _check_entry(name, entry)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise ValueError(
                f"path must be a .pt2 file that cannot run code, got {path} with {name}: {error}"
            ) from error
    for name, entry in entries:
        if name.endswith(f"/extra/{_ABOUT}"):
            return json.loads(entry)
    raise ValueError(f"path must be a .pt2 file of qtlite's, got {path} without {_ABOUT}")


def _check_entry(name: str, entry: bytes) -> None:
    if name.endswith(".pt"):
        torch.load(io.BytesIO(entry), weights_only=True)  # refuses all but tensors
    if name.endswith("_config.json"):
        for tensor in json.loads(entry)["config"].values():
            if tensor["use_pickle"]:
                raise ValueError("a pickled tensor")
    if name.endswith(".json") and "/extra/" not in name:
        for key, value in _strings(json.loads(entry)):
            if not _STRINGS.get(key, _PLAIN).fullmatch(value):
                raise ValueError(f"the string {value!r}")


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string at any depth with the key above it; and every key, as a string without one."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, dict):
        for name, child in node.items():
            yield "", name
            yield from _strings(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from _strings(child, key)
