"""One JSON file for each finished run: what was asked, what came out, on what it ran."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from qtlite.experiments.config import TrainConfig
from qtlite.export.atomic import whole_file

COMMIT_VARIABLE = "QTLITE_COMMIT"
PACKAGES = ("qtlite", "torch", "torchvision", "tensorcircuit-ng", "numpy", "numba", "triton")


def record_id(config: TrainConfig) -> str:
    """Name a run by what matters, and by a hash of the whole config.

    Example:
        >>> record_id(TrainConfig()).rpartition("-")[0]
        'digits-qt-qtlite-L16-s0'
    """
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
    blocks = "" if config.model in ("classical", "qcml") else f"-L{config.n_blocks}"
    return f"{config.dataset}-{config.model}-{config.recipe}{blocks}-s{config.seed}-{digest}"


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, hardware and commit of the code that runs: to be asked before a run, not after."""
    return {
        "versions": {"python": platform.python_version(), **package_versions(PACKAGES)},
        "hardware": {
            "processor": processor_name(),
            "n_cores": os.cpu_count(),
            "n_threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name(device) if device != "cpu" else None,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "commit": _commit(),
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON to a file, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to a file, whole or not at all, the same bytes on every system."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read every record of a folder, in the order of their names.

    Args:
        folder: holds ``*.json`` files written by ``write_json``; may be missing.

    Raises:
        ValueError: if a file is no record; the message names it.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            TrainConfig.from_dict(record["config"])
            check_id(record["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"folder must hold run records only, got {path}: {error}") from error
        records.append(record)
    return records


def check_id(name: str) -> str:
    """Return a record's id if it can name a file in a folder, whichever folder that is.

    Raises:
        ValueError: if it holds more than letters, digits, ``_``, ``-`` and single dots.

    Example:
        >>> check_id("digits-qt-qtlite-L16-s0-1a2b3c4d")
        'digits-qt-qtlite-L16-s0-1a2b3c4d'
    """
    if not (isinstance(name, str) and re.fullmatch(r"[\w-]+(\.[\w-]+)*", name, re.ASCII)):
        raise ValueError(f"id must be letters, digits, '_', '-' and single dots, got {name!r}")
    return name


def recorded(folder: Path) -> dict[TrainConfig, str]:
    """The id of each config that has a record in a folder.

    It need not be ``record_id``'s of today: fields that a config got later have changed that.

    Args:
        folder: see ``read_records``.
    """
    return {
        TrainConfig.from_dict(record["config"]): record["id"] for record in read_records(folder)
    }


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed versions by package, None where there is none."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def processor_name() -> str:
    """The processor as the system calls it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the package, with "+changes" where its files differ from it.

    A copy that has no repository, or an older one, can be told by COMMIT_VARIABLE.
    """
    found = _commit_of_checkout()
    return found if found and "+" not in found else os.environ.get(COMMIT_VARIABLE, found)


def _commit_of_checkout() -> str | None:
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        ours = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True)
        if ours.returncode != 0:  # installed into somebody else's repository
            return None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "."],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
