"""The checkpoint: one file with all that an interrupted run needs, replaced after every epoch."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import torch
from torch import nn

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.records.records import Epoch
from qtlite.export.atomic import atomic_write
from qtlite.export.schema import in_one_line

CHECKPOINT = "checkpoint.pt"


class Content(TypedDict):
    """What the file holds; a search for finished runs needs only the config and the history."""

    config: dict[str, Any]
    history: list[dict[str, int | float]]  # ``Epoch``, one for each epoch
    model: NotRequired[dict[str, Any]]
    optimiser: NotRequired[dict[str, Any]]
    schedule: NotRequired[dict[str, Any]]
    parts: NotRequired[list[dict[str, Any]]]  # ``environment``, and how many epochs it ran


@dataclass
class Run:
    """The state of a run, which training changes in place."""

    config: TrainConfig
    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Any
    history: list[dict[str, float]]
    parts: list[dict[str, Any]]


def write_checkpoint(path: Path, run: Run) -> None:
    """Write a run's state to a file atomically.

    Raises:
        OSError: if the file cannot be written, such as on a full disk.
    """
    content: Content = {
        "config": run.config.to_dict(),
        "model": run.model.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "schedule": run.schedule.state_dict() if run.schedule is not None else {},
        "history": run.history,
        "parts": run.parts,
    }
    with atomic_write(path) as unfinished:
        try:
            torch.save(content, unfinished)
        except RuntimeError as error:  # PyTorch's, which does not say that the disk is full
            raise OSError(f"checkpoint must be writable, got {path}: {error}") from error


def read_checkpoint(path: Path) -> Content:
    """Return a checkpoint's content, without running any code that it may hold.

    Raises:
        ValueError: if the file is damaged or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at its checksums
            if damaged := archive.testzip():
                raise EOFError(f"{damaged} is damaged")
            if min((entry.header_offset for entry in archive.infolist()), default=0) > 0:
                raise EOFError("another archive stands before it, which PyTorch would read")
        content = torch.load(path, weights_only=True, map_location="cpu")
        msgspec.convert(content, Content)
        return content
    except Exception as error:  # zipfile and PyTorch raise whatever they stumble on
        raise _damaged(path, error) from error


def resume(path: Path, run: Run) -> None:
    """Put a run into the state that its checkpoint describes.

    Raises:
        ValueError: if the checkpoint is damaged or of another config.
    """
    content = read_checkpoint(path)
    wanted, found = run.config.to_dict(), content["config"]
    if differing := sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    ):
        raise ValueError(
            f"checkpoint must be of the config asked for, got {path} with another {differing}"
        )
    try:
        run.model.load_state_dict(content["model"])
        if lacking := run.model.state_dict().keys() - content["model"].keys():
            raise ValueError(f"model must hold all that the run's does, got no {sorted(lacking)}")
        if not all(parameter.isfinite().all() for parameter in run.model.parameters()):
            raise ValueError("model must have finite parameters, got NaN or infinity")
        run.optimiser.load_state_dict(content["optimiser"])
        if run.schedule is not None:
            state, own = content["schedule"], run.schedule.state_dict()
            known = {"last_epoch": None, **state}  # PyTorch accepts any state, even none
            if wrong := [k for k, v in own.items() if type(known.get(k, v)) is not type(v)]:
                raise ValueError(f"schedule must be the run's, got another {wrong}")
            run.schedule.load_state_dict(state)
        epochs = [entry["epoch"] for entry in msgspec.convert(content["history"], list[Epoch])]
        if epochs != list(range(1, sum(part["epochs"] for part in content["parts"]) + 1)):
            raise ValueError(f"history must have one entry for each epoch, got {epochs}")
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    run.history, run.parts = content["history"], content["parts"]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint must be a file that training wrote, got {path} "
        f"({type(error).__name__}: {in_one_line(error)}): delete it to start again"
    )
