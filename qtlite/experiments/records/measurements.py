"""One JSON file for each study: its config, its results, and the machine it ran on.

A record says how one network was trained. A study is anything else that a page or a table quotes
and that takes too long to do on the page. A program writes its file; running the study again
replaces it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from qtlite.experiments.records.records import (
    NotNegative,
    Seal,
    check_digest,
    check_folder,
    check_id,
    environment,
    write_json,
)
from qtlite.export.schema import check_content, read_json


class Measurement(TypedDict):
    """What a study's file holds."""

    name: str
    config: dict[str, Any]
    results: dict[str, Any] | list[Any]
    wall_seconds: NotNegative
    versions: dict[str, str | None]
    hardware: dict[str, str | int | None]
    commit: str | None
    seal: NotRequired[Seal]  # of the file: a measurement that was read has none


def take_measurement(
    name: str, measure: Callable[..., Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``measure(**config)`` and return its results with the config, the time and the machine.

    Args:
        name: of the file to be, without ".json".
        measure: returns plain JSON types.
        config: everything that decides the results, as plain JSON types, with a seed.

    Returns:
        The fields of ``Measurement``.

    Raises:
        ValueError: if ``config`` has no seed.

    Example:
        >>> def double(a, seed):
        ...     return {"twice": 2 * a}
        >>> found = take_measurement("double", double, {"a": 2, "seed": 0})
        >>> found["results"], sorted(found)[:4]
        ({'twice': 4}, ['commit', 'config', 'hardware', 'name'])
    """
    if "seed" not in config:
        raise ValueError(f"config must have a seed, got {sorted(config)}")
    setting = environment()  # before measuring: the files may change meanwhile
    start = time.perf_counter()
    results = measure(**config)
    seconds = round(time.perf_counter() - start, 2)
    content = {"name": name, "config": dict(config), "results": results, "wall_seconds": seconds}
    return content | setting


def write_measurement(measurement: Mapping[str, Any], folder: Path) -> Path:
    """Write a measurement to ``<folder>/<name>.json`` atomically.

    Raises:
        ValueError: if a field is missing or has another type, or a number is not finite.
    """
    content = check_content(measurement, Measurement, "a measurement", "one to be written")
    path = folder / f"{check_id(content['name'], 'name')}.json"
    write_json(path, content, sealed=True)
    return path


def read_measurement(path: Path) -> Measurement:
    """Read what ``write_measurement`` wrote.

    Raises:
        ValueError: if the file is something else or has changed since it was written; the message
            names it.
        FileNotFoundError: if its folder is missing; the message says where a chapter's is.
    """
    check_folder(path.parent)
    content = read_json(path, Measurement, "a measurement")
    check_digest(path, content)
    if content["name"] != path.stem:
        raise ValueError(f"{path} must hold the measurement of that name, got {content['name']!r}")
    if "seed" not in content["config"]:
        raise ValueError(f"{path} must have a seed in its config, got {sorted(content['config'])}")
    return content


def read_measurements(folder: Path) -> dict[str, Measurement]:
    """Read every measurement of a folder, by name in alphabetical order.

    Raises:
        ValueError: if a file is no measurement; the message names it.
        FileNotFoundError: see ``read_measurement``.
    """
    check_folder(folder)
    return {path.stem: read_measurement(path) for path in sorted(folder.glob("*.json"))}
