"""PT2: the network as a graph of PyTorch operations (``torch.export``), without its Python code.

qtlite writes these files for PyTorch's users and never reads them: PyTorch's reader unpickles some
parts, evaluates some strings and runs whatever operations the graph names, so a file from a
stranger can run code. Read only files that you wrote, with ``torch.export.load``.
"""

import copy
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from qtlite.export.atomic import atomic_write
from qtlite.export.checks import check_outputs, one_output, prepare

_ABOUT = "qtlite.json"


def save_torch_export(
    network: nn.Module,
    example: Tensor,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a network as a .pt2 file, read it again and compare outputs.

    Args:
        network, example: as for ``save_onnx``.
        path, metadata, overwrite: as for ``save_safetensors``.

    Raises:
        ValueError: if the network or the example does not fit, or cannot be traced.
        FileExistsError: if the file exists and ``overwrite`` is off.
        RuntimeError: if the file does not give the network's outputs; it is not kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.pt2"
        ...     _ = save_torch_export(nn.Linear(3, 2), torch.randn(2, 3), path, {"by": "me"})
        ...     about = {"qtlite.json": ""}
        ...     network = torch.export.load(path, extra_files=about).module()
        >>> network(torch.zeros(7, 3)).shape, about["qtlite.json"]
        (torch.Size([7, 2]), '{"by": "me"}')
    """
    prepare(network, metadata)
    network = copy.deepcopy(network).eval()
    # a copy, since the example goes into the file, and a slice would take all its images along
    example = example.detach().clone()
    expected = one_output(network, example)
    with atomic_write(path, overwrite) as unfinished, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own insides
        try:
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(network, (example,), dynamic_shapes=shapes)
        except Exception as error:  # the exporter has many, without a common base
            raise ValueError(
                f"network must be one that torch.export traces, got {type(network).__name__}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        for node in program.graph.nodes:  # drop stack traces with folder names of this machine
            node.meta = {name: node.meta[name] for name in ("val",) if name in node.meta}
        buffer = io.BytesIO()  # PyTorch insists on a file name that ends in .pt2
        about = json.dumps(dict(metadata or {}))
        torch.export.save(program, buffer, extra_files={_ABOUT: about})
        unfinished.write_bytes(buffer.getvalue())
        again = torch.export.load(io.BytesIO(unfinished.read_bytes())).module()
        for n in (len(example), 1):
            check_outputs(expected[:n], again(example[:n]).detach())
    return Path(path)
