"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[Any], None]

MAX_COUNT = 1024  # of threads, processes and seeds


def add(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options that several commands share."""
    folder, shown = {"type": Path, "metavar": "FOLDER"}, " (default: %(default)s)"
    shared: dict[str, dict[str, Any]] = {
        "data": {"metavar": "FOLDER", "help": "of the images (default: $QTLITE_DATA, else data)"},
        "download": {"action": "store_true", "help": "fetch the images if they are missing"},
        "runs": folder | {"default": Path("runs"), "help": "of checkpoints and networks" + shown},
        "records": folder | {"default": Path("book/records"), "help": "of records" + shown},
        "to": folder | {"help": "of the files to write" + shown},
        "device": {"default": "cpu", "help": "cpu or cuda" + shown},
    }
    for name in names:
        parser.add_argument(f"--{name}", **{**shared[name], **changes})


def add_choice(group: Any, option: Any) -> None:
    """Add a field of ``TrainConfig``; one that is not given stays out of the options."""
    names = [f"--{option.name.replace('_', '-')}"]
    if option.name == "n_blocks":
        names.insert(0, "--blocks")
    default, choices = option.default, option.metadata["choices"]
    keywords: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS}
    if choices:
        keywords["choices"] = choices
    elif isinstance(default, bool):
        keywords["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, tuple):
        keywords.update(type=int, nargs="+", metavar="WIDTH")
    else:
        keywords.update(type=int if default is None else type(default), metavar="X")
    group.add_argument(*names, help=f"{option.metadata['help']} [{default}]", **keywords)


def check_count(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= MAX_COUNT:
        raise ValueError(f"{name} must be between 1 and {MAX_COUNT}, got {value}")
