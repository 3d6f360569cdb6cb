"""Train one configuration: build, loop, checkpoint, resume, evaluate, record."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from qtlite.experiments.bits.tiny_file import file_length
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import is_own
from qtlite.experiments.data.loading import Dataset, to_float
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.models.seeded import trained_integers
from qtlite.experiments.records.records import departures, environment, record_id
from qtlite.experiments.train.checkpoint import CHECKPOINT, Run, resume, write_checkpoint
from qtlite.experiments.train.fitting import train_epoch
from qtlite.experiments.train.optimiser import build_optimiser, build_schedule
from qtlite.experiments.train.process import (
    check_device,
    denormals_as_zero,
    deterministic_cudnn,
    keep_freed_memory,
)
from qtlite.quantum_train import GeneratedNetwork

EVALUATION_BATCH = 1000  # images; larger ones leave the cache


@dataclass(frozen=True)
class TrainedRun:
    """The result of training: the trained model, its plain classical network, and the record."""

    model: nn.Module
    classical: nn.Module
    record: dict[str, Any]


@deterministic_cudnn()
@denormals_as_zero()
def train(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path | None = None,
    *,
    device: str = "cpu",
    progress: bool = True,
    line: int | None = None,
    on_epoch: Callable[[list[dict[str, float]]], None] = lambda history: None,
) -> TrainedRun:
    """Train a config to its end, from the folder's checkpoint if there is one.

    A checkpoint is written after every epoch, and the order of the images depends only on the seed
    and the epoch. So an interrupted run ends with the same weights, bit for bit on the same machine
    with the same number of threads. The record of a run that went on elsewhere has ``parts``: which
    epochs where.

    Args:
        config: what to train.
        dataset: the images of ``config.dataset``.
        folder: of the checkpoint; without it none is written.
        device: "cpu" or "cuda".
        progress: whether to show a bar with the time left.
        line: of the terminal, counted from the cursor's, if several runs show a bar.
        on_epoch: called after every epoch with the entries of all epochs until then.

    Raises:
        ValueError: if the dataset is another one, the checkpoint is of another config or damaged,
            ``n_train`` exceeds the images, the device is missing, or a loss or a weight is not
            finite: what an epoch left in such a state is not kept.

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
    if (config.n_train or 0) > (n_images := len(dataset.train_labels)):
        raise ValueError(f"n_train must be at most {n_images}, got {config.n_train}")
    images = dataset.train_images[: config.n_train].to(device)
    labels = dataset.train_labels[: config.n_train].to(device)
    test_set = dataset.test_images.to(device), dataset.test_labels.to(device)

    model = build_model(config).to(device)
    n_steps = -(-len(labels) // config.batch_size)
    optimiser = build_optimiser(config, model, n_steps)
    schedule = build_schedule(config, optimiser, config.epochs * n_steps)
    run = Run(config, model, optimiser, schedule, history=[], parts=[])
    checkpoint = None if folder is None else folder / CHECKPOINT
    if checkpoint is not None and checkpoint.exists():
        resume(checkpoint, run)
    if not run.parts or {**run.parts[-1], "epochs": 0} != {"epochs": 0, **setting}:
        run.parts.append({"epochs": 0, **setting})

    steps = {"total": config.epochs * n_steps, "initial": len(run.history) * n_steps}
    place = {"disable": not progress, "position": line, "leave": line is None}
    with tqdm(desc=record_id(config), unit="step", **steps, **place) as bar:
        for epoch in range(len(run.history), config.epochs):
            start = time.perf_counter()
            train_loss = _train_epoch(run, epoch, images, labels, bar)
            plain = classical(model)
            test_loss, test_accuracy = evaluate(plain, *test_set, config)
            _check_finite(config, epoch, test_loss, *{*plain.parameters(), *model.parameters()})
            bar.set_postfix(loss=f"{train_loss:.3f}", accuracy=f"{test_accuracy:.4f}")
            run.history.append(
                {
                    "epoch": epoch + 1,
                    "train_loss": train_loss,
                    "test_loss": test_loss,
                    "test_accuracy": test_accuracy,
                    "learning_rate": optimiser.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
            )
            run.parts[-1]["epochs"] += 1
            if checkpoint is not None:
                write_checkpoint(checkpoint, run)
            on_epoch(run.history)
    plain = classical(model)
    record = _record(run, plain, (images, labels), len(test_set[1]))
    if is_own(config.dataset):
        record["classes"] = list(dataset.classes)
    parts = [part for part in run.parts if part["epochs"]]
    record |= {name: parts[-1][name] for name in setting}
    if len(parts) > 1:  # several machines, commits, versions or numbers of threads
        record["parts"] = parts
    return TrainedRun(model, plain, record)


def _train_epoch(run: Run, epoch: int, images: Tensor, labels: Tensor, bar: tqdm) -> float:
    """Train on every image once; the mean loss over the images, each before its step."""
    config, total = run.config, 0.0

    def on_loss(loss: float, n_images: int) -> None:
        nonlocal total
        _check_finite(config, epoch, loss)
        total += loss * n_images
        bar.update()

    shown = augmented(images, config, epoch)
    indices = _batches(config, epoch, len(labels))
    batches = ((_inputs(shown[batch], config), labels[batch]) for batch in indices)
    every_step = run.schedule if config.schedule == "one_cycle" else None
    train_epoch(run.model, run.optimiser, batches, on_loss, every_step)
    if config.schedule == "plateau":
        run.schedule.step(total / len(labels))
    return total / len(labels)


def _check_finite(config: TrainConfig, epoch: int, loss: float, *weights: Tensor) -> None:
    advice = f"in epoch {epoch + 1}: lower learning_rate ({config.learning_rate})"
    if not isfinite(loss):
        raise ValueError(f"loss must be finite, got {loss} {advice}")
    if n := sum(int((~torch.isfinite(tensor)).sum()) for tensor in weights):
        raise ValueError(f"weights must be finite, got {n} others {advice}")


@torch.no_grad()
def evaluate(
    network: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig
) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the accuracy in [0, 1] over all images.

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
    """Normalised images, with a pixel's channels side by side: PyTorch pools them far faster."""
    inputs = to_float(images, config.pixel_mean, config.pixel_std)
    return inputs.to(memory_format=torch.channels_last)


def _batches(config: TrainConfig, epoch: int, n_images: int) -> tuple[Tensor, ...]:
    """Indices of one epoch's batches: each seed and epoch has its own shuffle."""
    generator = torch.Generator().manual_seed(1_000_003 * (config.seed + 1) + epoch)
    return torch.randperm(n_images, generator=generator).split(config.batch_size)


def augmented(images: Tensor, config: TrainConfig, epoch: int) -> Tensor:
    """Return one epoch's training images, of which ``mirror`` reflects a random half.

    The half depends on the seed and the epoch.
    """
    if config.augmentation == "none":
        return images
    generator = torch.Generator().manual_seed(1_000_003 * (config.seed + 1) - epoch - 1)
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(-1), images)


def _record(
    run: Run, plain: nn.Module, train_set: tuple[Tensor, Tensor], n_test: int
) -> dict[str, Any]:
    config, model = run.config, run.model
    train_loss, train_accuracy = evaluate(plain, *train_set, config)
    _check_finite(config, config.epochs - 1, train_loss)
    length = {}
    if config.grid:
        blocks, layers = trained_integers(model.cpu(), build_model(config), config.grid)
        length["file_bytes"] = file_length(config.hidden, blocks, layers)
    return {
        "id": record_id(config),
        **{name: getattr(config, name) for name in ("dataset", "model", "recipe")},
        "n_blocks": config.n_blocks if isinstance(model, GeneratedNetwork) else None,
        "n_qubits": getattr(model, "n_qubits", None),
        "n_trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "n_weights": sum(parameter.numel() for parameter in plain.parameters()),
        "seed": config.seed,
        "evaluated_on": "validation" if config.n_validation else "test",
        "n_train": len(train_set[1]),
        "n_test": n_test,
        **{name: run.history[-1][name] for name in ("test_accuracy", "test_loss")},
        "train_accuracy": train_accuracy,
        "train_loss": train_loss,
        "wall_seconds": sum(epoch["seconds"] for epoch in run.history),
        "history": run.history,
        "config": config.to_dict(),
        "departures": departures(config),
        **length,
    }
