"""Import torchvision, even if its wheel was built for another torch.

The Linux wheel of torchvision on the package index is built for CUDA. With a CPU-only torch its
compiled operators do not load, and the import fails with ``operator torchvision::nms does not
exist``. The datasets, the only part used here, need none of these operators.
"""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import torch

# torch forgets the operators when this object is deleted, so it lives as long as the process.
_missing_operators: torch.library.Library | None = None


def import_torchvision() -> ModuleType:
    """Import torchvision; declare the operators that its own import misses, if any.

    A declared operator has no implementation: calling it (such as ``nms``) still fails. If
    torchvision imports without an error, nothing is declared.

    Raises:
        ImportError: if torchvision is not installed.
        RuntimeError: if its import fails for another reason; passed on unchanged.

    Example:
        >>> import_torchvision().__name__
        'torchvision'
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not re.search(r"operator torchvision::\w+ does not exist", str(error)):
            raise
    _declare_missing_operators()
    return importlib.import_module("torchvision")


def _declare_missing_operators() -> None:
    """Declare each operator that torchvision registers a fake (shape-only) version for."""
    global _missing_operators
    folder = Path(importlib.util.find_spec("torchvision").origin).parent
    source = (folder / "_meta_registrations.py").read_text(encoding="utf-8")
    names = re.findall(r'register_fake\("torchvision::(\w+)"\)', source)
    _missing_operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in names:
        _missing_operators.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    # the failed import left half-initialised modules behind
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
