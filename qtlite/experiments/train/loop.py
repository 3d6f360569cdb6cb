"""Train one configuration: build, loop, checkpoint, resume, evaluate, record."""

from __future__ import annotations

import pickle
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import Dataset, to_float
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.records.records import environment, record_id
from qtlite.experiments.train.full_matrix_adam import FullMatrixAdam
from qtlite.experiments.train.process import keep_freed_memory
from qtlite.export.atomic import whole_file
from qtlite.quantum_train import GeneratedNetwork

CHECKPOINT = "checkpoint.pt"
EVALUATION_BATCH = 1000  # images; larger ones leave the cache


@dataclass(frozen=True)
class TrainedRun:
    """What training leaves: the trained model, its plain classical network, and the record."""

    model: nn.Module
    classical: nn.Module
    record: dict[str, Any]


@contextmanager
def _same_sums_each_time() -> Iterator[None]:
    """On a GPU, take those of cuDNN's algorithms that add up in a fixed order."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Take numbers below 1e-38 for 0 on a CPU, where they take twenty times as long.

    Weight decay leads many weights there. It is so in this thread, and in PyTorch's other threads
    if they start meanwhile, as they do in `qtlite train`.
    """
    smallest = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    before = not (smallest * 1).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@_same_sums_each_time()
@_denormals_as_zero()
def train(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path | None = None,
    *,
    device: str = "cpu",
    progress: bool = True,
    line: int | None = None,
) -> TrainedRun:
    """Train a config to its end, going on from the folder's checkpoint if there is one.

    A checkpoint is written after every epoch; the images' order depends on the seed and the epoch,
    so that an interrupted run ends with the same weights: bit for bit on the same machine with the
    same number of threads. A record whose run went on elsewhere has ``parts``: which epochs where.

    Args:
        config: what to train.
        dataset: the images of ``config.dataset``.
        folder: where checkpoints go; none are written if left out.
        device: "cpu" or "cuda".
        progress: whether to show a bar with the time left.
        line: of the terminal, counted from the cursor's, where several runs have one each.

    Raises:
        ValueError: if the dataset is another one, the checkpoint is of another config or damaged,
            ``n_train`` exceeds the images, the device is missing, or the loss is not finite.

    Example:
        >>> from qtlite.experiments.data.loading import load_dataset
        >>> config = TrainConfig(n_train=256, epochs=1)
        >>> train(config, load_dataset("digits"), progress=False).record["n_trainable"]
        457
    """
    if dataset.name != config.dataset:
        raise ValueError(f"dataset must be {config.dataset!r} as in config, got {dataset.name!r}")
    check_device(device)
    keep_freed_memory()
    setting = environment(device)  # before training: the files may change meanwhile
    if config.n_validation:
        dataset = dataset.split_validation(config.n_validation)
    images, labels = _first(dataset.train_images, dataset.train_labels, config.n_train)
    images, labels = images.to(device), labels.to(device)
    test_images, test_labels = dataset.test_images.to(device), dataset.test_labels.to(device)

    model = build_model(config).to(device)
    optimiser = _optimiser(config, [p for p in model.parameters() if p.requires_grad])
    n_steps = -(-len(labels) // config.batch_size)
    schedule = _schedule(config, optimiser, n_steps)
    history: list[dict[str, float]] = []
    parts: list[dict[str, Any]] = []
    checkpoint = None if folder is None else folder / CHECKPOINT
    if checkpoint is not None and checkpoint.exists():
        history, parts = _load_checkpoint(checkpoint, config, model, optimiser, schedule)
    if not parts or {**parts[-1], "epochs": 0} != {"epochs": 0, **setting}:
        parts.append({"epochs": 0, **setting})

    bar = tqdm(
        total=config.epochs * n_steps,
        initial=len(history) * n_steps,
        desc=record_id(config),
        unit="step",
        disable=not progress,
        position=line,
        leave=line is None,
    )
    with bar:
        for epoch in range(len(history), config.epochs):
            start = time.perf_counter()
            total_loss = 0.0
            model.train()
            shown = _augmented(images, config, epoch)
            for batch in _batches(config, epoch, len(labels)):
                loss = F.cross_entropy(model(_inputs(shown[batch], config)), labels[batch])
                value = loss.item()
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"loss must be finite, got {value} in epoch {epoch + 1}: "
                        f"lower learning_rate ({config.learning_rate})"
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if config.schedule == "one_cycle":
                    schedule.step()
                total_loss += value * len(batch)
                bar.update()
            train_loss = total_loss / len(labels)
            if config.schedule == "plateau":
                schedule.step(train_loss)
            test_loss, test_accuracy = evaluate(classical(model), test_images, test_labels, config)
            bar.set_postfix(loss=f"{train_loss:.3f}", accuracy=f"{test_accuracy:.4f}")
            history.append(
                {
                    "epoch": epoch + 1,
                    "train_loss": train_loss,
                    "test_loss": test_loss,
                    "test_accuracy": test_accuracy,
                    "learning_rate": optimiser.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
            )
            parts[-1]["epochs"] += 1
            if checkpoint is not None:
                _save_checkpoint(checkpoint, config, model, optimiser, schedule, history, parts)
    plain = classical(model)
    record = _record(config, model, plain, history, (images, labels), len(test_labels))
    parts = [part for part in parts if part["epochs"]]
    record |= {name: parts[-1][name] for name in setting}
    if len(parts) > 1:  # several machines, commits, versions or numbers of threads
        record["parts"] = parts
    return TrainedRun(model, plain, record)


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ValueError: if ``device`` is not "cpu" and PyTorch finds no CUDA device.

    Example:
        >>> check_device("cpu")
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device must be 'cpu' where PyTorch finds no CUDA device, got {device!r}")


@torch.no_grad()
def evaluate(
    network: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig
) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy in [0, 1] over all images.

    Args:
        network: images to logits; left in evaluation mode.
        images: uint8, shape (n, channels, height, width).
        labels: shape (n,).
        config: says how pixels are normalised.
    """
    network.eval()
    loss, n_correct = 0.0, 0
    for part, truth in zip(
        images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
    ):
        logits = network(_inputs(part, config))
        loss += F.cross_entropy(logits, truth, reduction="sum").item()
        n_correct += int((logits.argmax(dim=1) == truth).sum())
    return loss / len(labels), n_correct / len(labels)


def _inputs(images: Tensor, config: TrainConfig) -> Tensor:
    """Normalised images, each pixel's channels together: PyTorch's pooling is far faster so."""
    inputs = to_float(images, config.pixel_mean, config.pixel_std)
    return inputs.to(memory_format=torch.channels_last)


def _first(images: Tensor, labels: Tensor, n_train: int | None) -> tuple[Tensor, Tensor]:
    if n_train is not None and n_train > len(labels):
        raise ValueError(f"n_train must be at most {len(labels)}, got {n_train}")
    return images[:n_train], labels[:n_train]


def _batches(config: TrainConfig, epoch: int, n_images: int) -> Iterator[Tensor]:
    """Indices of one epoch's batches: a shuffle of its own for each seed and epoch."""
    generator = torch.Generator().manual_seed(1_000_003 * (config.seed + 1) + epoch)
    yield from torch.randperm(n_images, generator=generator).split(config.batch_size)


def _augmented(images: Tensor, config: TrainConfig, epoch: int) -> Tensor:
    """One epoch's training images, drawn anew for each seed and epoch."""
    if config.augmentation == "none":
        return images
    generator = torch.Generator().manual_seed(1_000_003 * (config.seed + 1) - epoch - 1)
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(-1), images)


def _optimiser(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimiser == "full_matrix_adam":
        return FullMatrixAdam(
            parameters,
            lr=config.learning_rate,
            eps=config.adam_eps,
            refresh_every=config.refresh_every,
        )
    return torch.optim.Adam(
        parameters,
        lr=config.learning_rate,
        eps=config.adam_eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _schedule(config: TrainConfig, optimiser: torch.optim.Optimizer, n_steps: int) -> Any:
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            config.learning_rate,
            total_steps=config.epochs * n_steps,
            cycle_momentum=config.optimiser == "adam",  # PyTorch's default, for what has betas
        )
    if config.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=5)
    return None


def _save_checkpoint(
    path: Path,
    config: TrainConfig,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Any,
    history: list[dict[str, float]],
    parts: list[dict[str, Any]],
) -> None:
    content = {
        "config": config.to_dict(),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict() if schedule is not None else {},
        "history": history,
        "parts": parts,
    }
    with whole_file(path) as unfinished:
        try:
            torch.save(content, unfinished)
        except RuntimeError as error:  # such as a full disk, of which PyTorch does not speak
            raise OSError(f"checkpoint must be writable, got {path}: {error}") from error


def _load_checkpoint(
    path: Path,
    config: TrainConfig,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Any,
) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """Put everything back as it was after the last finished epoch.

    Returns:
        The history; and what ran how many epochs of it, as ``environment`` says it.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # whose checksums torch.load does not look at
            if damaged := archive.testzip():
                raise EOFError(f"{damaged} is damaged")
        content = torch.load(path, weights_only=True, map_location="cpu")
        found = content["config"]
        states = [content[name] for name in ("model", "optimiser", "schedule", "history", "parts")]
    except (
        RuntimeError,
        OSError,
        EOFError,
        LookupError,
        TypeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"checkpoint must be a file that training wrote, got {path} "
            f"({type(error).__name__}): delete it to start again"
        ) from error
    wanted = config.to_dict()
    if differing := sorted(
        k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)
    ):
        raise ValueError(
            f"checkpoint must be of the config asked for, got {path} with another {differing}"
        )
    model_state, optimiser_state, schedule_state, history, parts = states
    model.load_state_dict(model_state)
    optimiser.load_state_dict(optimiser_state)
    if schedule is not None:
        schedule.load_state_dict(schedule_state)
    return history, parts


def _record(
    config: TrainConfig,
    model: nn.Module,
    plain: nn.Module,
    history: list[dict[str, float]],
    train_set: tuple[Tensor, Tensor],
    n_test: int,
) -> dict[str, Any]:
    train_loss, train_accuracy = evaluate(plain, *train_set, config)
    n_weights = sum(parameter.numel() for parameter in plain.parameters())
    beside_qt = isinstance(model, GeneratedNetwork)
    return {
        "id": record_id(config),
        "dataset": config.dataset,
        "model": config.model,
        "recipe": config.recipe,
        "n_blocks": config.n_blocks if beside_qt else None,
        "n_qubits": getattr(model, "n_qubits", None),
        "n_trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "n_weights": n_weights,
        "seed": config.seed,
        "evaluated_on": "validation" if config.n_validation else "test",
        "n_train": len(train_set[1]),
        "n_test": n_test,
        "test_accuracy": history[-1]["test_accuracy"],
        "test_loss": history[-1]["test_loss"],
        "train_accuracy": train_accuracy,
        "train_loss": train_loss,
        "wall_seconds": sum(epoch["seconds"] for epoch in history),
        "history": history,
        "config": config.to_dict(),
    }
