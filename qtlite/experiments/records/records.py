"""One JSON file for each finished run: its config, its results, and the machine it ran on."""

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
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from msgspec import Meta

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.recipes import recipe_config
from qtlite.export.atomic import atomic_write
from qtlite.export.schema import in_one_line, read_json
from qtlite.export.seal import MARK, OPEN_SEAL, seal_file

COMMIT_VARIABLE = "QTLITE_COMMIT"
PACKAGES = ("qtlite", "torch", "torchvision", "tensorcircuit-ng", "numpy", "numba", "triton")
SUMS = "SHA256SUMS"  # digests of the files from before there was a checksum in each
WITHOUT_BLOCKS = ("classical", "qcml")  # models that have no L

Count = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Seal = Annotated[str, Meta(pattern=f"^{MARK}[0-9a-f]{{64}}$")]


class Epoch(TypedDict):
    """One epoch of a run: losses in nats, accuracy as a fraction."""

    epoch: Count
    train_loss: NotNegative
    test_loss: NotNegative
    test_accuracy: Fraction
    learning_rate: NotNegative
    seconds: NotNegative


class Record(TypedDict):
    """A finished run. ``test_…`` are validation results where ``evaluated_on`` says so."""

    id: str
    dataset: str
    model: str
    recipe: str
    n_blocks: Count | None
    n_qubits: Count | None
    n_trainable: Count
    n_weights: Count
    seed: int
    evaluated_on: str
    n_train: Count
    n_test: Count
    test_accuracy: Fraction
    test_loss: NotNegative
    train_accuracy: Fraction
    train_loss: NotNegative
    wall_seconds: NotNegative
    history: Annotated[list[Epoch], Meta(min_length=1)]
    config: dict[str, Any]
    file_bytes: NotRequired[Count]  # of a run on a grid: length of its tiny file
    classes: NotRequired[list[str]]  # of own images, which no catalogue describes
    departures: NotRequired[list[str]]  # fields that differed from the recipe when it ran
    versions: dict[str, str | None]
    hardware: dict[str, str | int | None]
    commit: str | None
    parts: NotRequired[list[dict[str, Any]]]  # of a run that was resumed on another machine
    seal: NotRequired[Seal]  # of the file: a record that was read has none


def record_id(config: TrainConfig) -> str:
    """Name a run by its main fields and by a hash of the whole config.

    Older records may have another id, since new fields change the hash.

    Example:
        >>> record_id(TrainConfig()).rpartition("-")[0]
        'digits-qt-qtlite-L16-s0'
    """
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
    blocks = "" if config.model in WITHOUT_BLOCKS else f"-L{config.n_blocks}"
    return f"{config.dataset}-{config.model}-{config.recipe}{blocks}-s{config.seed}-{digest}"


def departures(config: TrainConfig) -> list[str]:
    """Return the fields in which a config differs from its recipe as it is today.

    The recipe's values depend on the dataset, the model and the number of blocks. A record stores
    this list when its run is made, since a recipe may change later.

    Example:
        >>> departures(recipe_config("literal", "mnist", epochs=1, seed=3))
        ['epochs']
    """
    named = ("recipe", "dataset", "model", "n_blocks", "seed")
    own = recipe_config(**{name: getattr(config, name) for name in named}).to_dict()
    return [name for name, value in config.to_dict().items() if value != own[name]]


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return versions, hardware and commit; call it before a run, since files may change."""
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


def write_json(path: Path, content: Any, *, sealed: bool = False) -> None:
    """Write JSON to a file atomically.

    Args:
        path: of the file.
        content: of JSON's types; an object if it is to be sealed.
        sealed: whether to add a checksum over the file, ``seal``, which reading compares.

    Raises:
        ValueError: if the content is not of JSON's types, or a number is NaN or infinite.
    """
    try:
        content = content | {"seal": OPEN_SEAL} if sealed else content
        text = json.dumps(content, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"content of {path} must be finite JSON, got {error}") from error
    write_text(path, text + "\n", sealed=sealed)


def write_text(path: Path, text: str, *, sealed: bool = False) -> None:
    """Write text to a file atomically, with the same bytes on every system."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        if sealed:
            seal_file(unfinished)


def read_record(path: Path) -> Record:
    """Read one run's record.

    Raises:
        ValueError: if the file is not a record, contradicts itself, or has changed since it was
            written; the message names the file, the place and the rule.
    """
    what = "a run's record"
    record = read_json(path, Record, what)
    check_digest(path, record)
    try:
        check_id(record["id"])
        _check_against_config(record, TrainConfig.from_dict(record["config"]))
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"path must hold {what}, got {path}: {in_one_line(error)}") from error
    return record


def check_folder(folder: Path) -> None:
    """Refuse a missing folder of results, as where a downloaded chapter runs by itself.

    Raises:
        FileNotFoundError: if it is missing.
    """
    if not folder.exists():
        raise FileNotFoundError(
            f"{folder.name} must be a folder, got no {folder.absolute()}: the book's chapters read "
            "theirs in the folder book of a copy of the repository, so run them there"
        )


def check_digest(path: Path, content: dict[str, Any]) -> None:
    """Remove a file's checksum from its content, or compare the file with its folder's ``SUMS``.

    ``read_json`` has compared the checksum already.

    Raises:
        ValueError: if ``SUMS`` has another digest of the file.
    """
    listed = path.parent / SUMS
    if content.pop("seal", None) is None and listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if any(line[66:] == path.name and line[:64] != digest for line in lines):
            raise ValueError(f"path must be a file that {listed} lists, got {path}, which differs")


def read_records(folder: Path) -> list[Record]:
    """Read every record of a folder, in the order of the file names; the folder may be missing.

    Raises:
        ValueError: see ``read_record``; or if the folder is a file.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"folder must be a folder of records, got the file {folder}")
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def recorded(folder: Path) -> dict[TrainConfig, str]:
    """Return the id of each config that has a record in a folder."""
    records = read_records(folder)
    return {TrainConfig.from_dict(record["config"]): record["id"] for record in records}


def check_id(name: str, argument: str = "id") -> str:
    """Return a name if it can name a file in a folder and nothing outside it.

    Raises:
        ValueError: if it holds more than letters, digits, ``_``, ``-`` and single dots.

    Example:
        >>> check_id("digits-qt-qtlite-L16-s0-1a2b3c4d")
        'digits-qt-qtlite-L16-s0-1a2b3c4d'
    """
    if not (isinstance(name, str) and re.fullmatch(r"[\w-]+(\.[\w-]+)*", name, re.ASCII)):
        rule = "letters, digits, '_', '-' and single dots"
        raise ValueError(f"{argument} must be {rule}, got {name!r}")
    return name


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return installed versions by package, None for a package that is not installed."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def processor_name() -> str:
    """Return the processor's name as the operating system has it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check_against_config(record: Record, config: TrainConfig) -> None:
    last = record["history"][-1]
    expected = {
        "dataset": config.dataset,
        "model": config.model,
        "recipe": config.recipe,
        "seed": config.seed,
        "n_blocks": None if config.model in WITHOUT_BLOCKS else config.n_blocks,
        "evaluated_on": "validation" if config.n_validation else "test",
        "n_train": config.n_train or record["n_train"],
        "test_accuracy": last["test_accuracy"],
        "test_loss": last["test_loss"],
    }
    for name, value in expected.items():
        if record[name] != value:
            rule = f"{name} must be {value!r} as in config or history"
            raise ValueError(f"{rule}, got {record[name]!r}")
    if len(record["history"]) != config.epochs:
        raise ValueError(f"history must have {config.epochs} epochs, got {len(record['history'])}")


def _commit() -> str | None:
    """The package's commit, with "+changes" where its files differ from it.

    COMMIT_VARIABLE gives the commit of a copy that has no repository, or an older one.
    """
    found = _commit_of_checkout()
    return found if found and "+" not in found else os.environ.get(COMMIT_VARIABLE, found)


def _commit_of_checkout() -> str | None:
    def git(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(Path(__file__).parents[2]), *words]  # the whole package
        return subprocess.run(command, capture_output=True, text=True)

    try:
        if git("ls-files", "--error-unmatch", __file__).returncode != 0:
            return None  # installed into somebody else's repository
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".").stdout.strip()
        return git("rev-parse", "HEAD").stdout.strip() + "+changes" * bool(changes)
    except FileNotFoundError:  # no git on this machine
        return None
