"""One JSON file for each measurement: what was asked, what came out, on what it ran.

A run's record says how one network was trained. A measurement is anything else that a page or a
table quotes and that takes too long to do on the page. Its file is written by a program, never by
hand; measuring again replaces it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qtlite.experiments.records.records import environment, write_text

FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "config": dict,
    "results": (dict, list),
    "wall_seconds": (int, float),
    "versions": dict,
    "hardware": dict,
    "commit": (str, type(None)),
}


def take_measurement(
    name: str, measure: Callable[..., Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``measure(**config)``, and put its results beside what they depend on.

    Args:
        name: of the file to be, without ".json".
        measure: returns what was found, as plain JSON types.
        config: the whole of what decides the results, as plain JSON types, a seed among them.

    Returns:
        ``FIELDS``: name, config, results, wall seconds, versions, hardware, commit.

    Raises:
        ValueError: if ``config`` has no seed.

    Example:
        >>> found = take_measurement("sum", lambda a, seed: {"total": a}, {"a": 2, "seed": 0})
        >>> found["results"], sorted(found)[:4]
        ({'total': 2}, ['commit', 'config', 'hardware', 'name'])
    """
    if "seed" not in config:
        raise ValueError(f"config must have a seed, got {sorted(config)}")
    setting = environment()  # before measuring: the files may change meanwhile
    start = time.perf_counter()
    results = measure(**config)
    seconds = round(time.perf_counter() - start, 2)
    return {
        "name": name,
        "config": dict(config),
        "results": results,
        "wall_seconds": seconds,
        **setting,
    }


def write_measurement(measurement: Mapping[str, Any], folder: Path) -> Path:
    """Write a measurement to ``<folder>/<name>.json``, whole or not at all.

    Raises:
        ValueError: if a field is missing or of another type, or a number is not finite.
    """
    _check(measurement, "measurement")
    path = folder / f"{measurement['name']}.json"
    write_text(path, json.dumps(measurement, indent=1, allow_nan=False) + "\n")
    return path


def read_measurement(path: Path) -> dict[str, Any]:
    """Read what ``write_measurement`` wrote.

    Raises:
        ValueError: if the file is something else; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"path must hold a measurement, got {path}: {error}") from error
    _check(content, str(path))
    if content["name"] != path.stem:
        raise ValueError(f"{path} must hold the measurement of that name, got {content['name']!r}")
    return content


def read_measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every measurement of a folder, by name in alphabetical order; the folder may be missing.

    Raises:
        ValueError: if a file is no measurement; the message names it.
    """
    return {path.stem: read_measurement(path) for path in sorted(folder.glob("*.json"))}


def _check(content: Any, what: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{what} must be a mapping, got {type(content).__name__}")
    for field, kind in FIELDS.items():
        if field not in content:
            raise ValueError(f"{what} must have {list(FIELDS)}, got none of {field!r}")
        if not isinstance(content[field], kind):
            raise ValueError(f"{what} must have a sound {field!r}, got {content[field]!r}")
    if "seed" not in content["config"]:
        raise ValueError(f"{what} must have a seed in its config, got {sorted(content['config'])}")
