"""One pass over all tensors is compared with ``split_weights`` and ``normalise_weights``."""

import pytest
import torch
from refusals import refused
from torch import nn

from qtlite.engine import normalisation as module
from qtlite.experiments.models.targets import paper_cnn
from qtlite.inject import split_weights, weight_shapes
from qtlite.normalisation import Normalisation, normalise_weights, weight_scales

TARGETS = {
    "cnn": lambda: paper_cnn("mnist"),
    "batchnorm": lambda: nn.Sequential(nn.Linear(9, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
    "lstm": lambda: nn.LSTM(3, 8, batch_first=True),
    "one bias": lambda: nn.Conv2d(1, 1, 3),
}


def both_ways(target, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = weight_shapes(target)
    scales = weight_scales(target, shapes)
    flat = 1 + 3 * torch.randn(sum(shape.numel() for shape in shapes.values()), dtype=dtype)
    flat.requires_grad_()
    loops = Normalisation(shapes, scales)
    return flat, loops, lambda flat: normalise_weights(split_weights(flat, shapes), scales, "row")


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_values_and_gradients_are_those_of_the_two_functions(name, dtype, tolerance):
    flat, *ways = both_ways(TARGETS[name](), dtype)
    slopes, results = torch.randn_like(flat), []
    for way in ways:
        weights = way(flat)
        loss = torch.cat([w.flatten() for w in weights.values()]) @ slopes
        results.append((weights, torch.autograd.grad(loss, flat)[0]))
    (ours, slope), (theirs, exact) = results
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(slope, exact, atol=tolerance * exact.abs().max().item(), rtol=0)


def test_gradients_in_another_memory_format_and_unused_tensors():
    flat, *ways = both_ways(nn.Conv2d(3, 4, 3), torch.float64)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    slopes = []
    for way in ways:
        outputs = torch.conv2d(images, way(flat)["weight"])  # its bias has no gradient
        slopes.append(torch.autograd.grad(outputs.square().sum(), flat)[0])
    torch.testing.assert_close(*slopes)


def test_constant_rows_give_finite_gradients():
    _, loops, _ = both_ways(nn.Linear(9, 2))
    flat = torch.ones(20, requires_grad=True)
    loops(flat)["weight"][:, 0].sum().backward()
    assert flat.grad.isfinite().all()


def test_a_weight_changed_before_the_backward_pass_is_noticed():
    flat, loops, _ = both_ways(nn.Linear(9, 2))
    weights = loops(flat)
    loss = weights["weight"].sum()
    with torch.no_grad():
        weights["weight"].mul_(2)
    refused("modified by an inplace operation", loss.backward, error=RuntimeError)


def test_without_a_compiler_it_is_the_two_functions(monkeypatch):
    flat, loops, plain = both_ways(nn.Linear(9, 2))
    monkeypatch.setattr(module, "can_compile", lambda: False)
    torch.testing.assert_close(loops(flat), plain(flat), atol=0, rtol=0)


def test_another_number_of_weights_is_refused():
    _, loops, _ = both_ways(nn.Linear(9, 2))
    for shape in (21, (4, 5)):
        refused(r"flat must have shape \(20,\), got", loops, torch.zeros(shape))
