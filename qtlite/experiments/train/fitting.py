"""The training step, and training without files: for a model that the caller has changed.

Runs that are recorded are made by ``loop.train``, which builds its model from a config.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def train_epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    on_loss: Callable[[float, int], None],
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> None:
    """Take one optimiser step for each batch.

    Args:
        model: inputs to logits; changed in place.
        optimiser: of the model's parameters.
        batches: inputs of shape (batch, ...) and labels of shape (batch,).
        on_loss: called before each step with the mean cross-entropy of its batch, nats, and the
            number of inputs; it may raise an error to stop before the step.
        schedule: changes the learning rate after every step.
    """
    model.train()
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)
        on_loss(loss.item(), len(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()


def fit(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 128,
    seed: int = 0,
    prepare: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> list[float]:
    """Train a model in place with Adam and a one-cycle learning rate.

    Args:
        model: inputs to logits.
        inputs: shape (n, ...).
        labels: shape (n,).
        epochs: passes over the inputs.
        learning_rate: the peak of the cycle.
        batch_size: inputs per step.
        seed: of the order of the inputs.
        prepare: applied to every batch of inputs, such as ``to_float``.

    Returns:
        The loss of every step, nats.

    Example:
        >>> model, inputs = nn.Linear(2, 2), torch.eye(2).repeat(20, 1)
        >>> labels = inputs.argmax(dim=1)
        >>> losses = fit(model, inputs, labels, epochs=3, learning_rate=0.5, batch_size=10)
        >>> len(losses), losses[-1] < losses[0]
        (12, True)
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    n_steps = epochs * -(-len(labels) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=n_steps)
    order = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for _ in range(epochs):
        shuffled = torch.randperm(len(labels), generator=order).split(batch_size)
        batches = ((prepare(inputs[batch]), labels[batch]) for batch in shuffled)
        train_epoch(model, optimiser, batches, lambda loss, _: losses.append(loss), schedule)
    return losses
