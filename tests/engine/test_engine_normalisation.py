"""One pass over all tensors is compared with ``split_weights`` and ``normalise_weights``."""

import pytest
import torch
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


def both_ways(target, dtype):
    shapes = weight_shapes(target)
    scales = weight_scales(target, shapes)
    flat = 1 + 3 * torch.randn(sum(shape.numel() for shape in shapes.values()), dtype=dtype)
    flat.requires_grad_()
    loops = Normalisation(shapes, scales)
    return flat, loops, lambda flat: normalise_weights(split_weights(flat, shapes), scales, "row")


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_values_and_gradients_are_those_of_the_two_functions(name, dtype, tolerance):
    torch.manual_seed(0)
    flat, *ways = both_ways(TARGETS[name](), dtype)
    results = []
    for way in ways:
        weights = way(flat)
        sensitivities = [
            torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
            for w in weights.values()
        ]
        loss = sum((w * s).sum() for w, s in zip(weights.values(), sensitivities, strict=True))
        results.append((weights, torch.autograd.grad(loss, flat)[0]))
    (ours, slope), (theirs, exact) = results
    assert list(ours) == list(theirs)
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(slope, exact, atol=tolerance * exact.abs().max().item(), rtol=0)


def test_gradcheck():
    torch.manual_seed(0)
    flat, loops, _ = both_ways(TARGETS["batchnorm"](), torch.float64)
    assert torch.autograd.gradcheck(lambda flat: tuple(loops(flat).values()), flat)


def test_gradients_in_another_memory_format_and_unused_tensors():
    torch.manual_seed(0)
    flat, *ways = both_ways(nn.Conv2d(3, 4, 3), torch.float64)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    slopes = []
    for way in ways:
        outputs = torch.conv2d(images, way(flat)["weight"])  # its bias has no gradient
        slopes.append(torch.autograd.grad(outputs.square().sum(), flat)[0])
    torch.testing.assert_close(*slopes)


def test_constant_rows_give_finite_gradients():
    shapes = weight_shapes(nn.Linear(9, 2))
    flat = torch.ones(20, requires_grad=True)
    weights = Normalisation(shapes, weight_scales(nn.Linear(9, 2), shapes))(flat)
    weights["weight"][:, 0].sum().backward()
    assert flat.grad.isfinite().all()


def test_a_weight_changed_before_the_backward_pass_is_noticed():
    flat, loops, _ = both_ways(nn.Linear(9, 2), torch.float32)
    weights = loops(flat)
    loss = weights["weight"].sum()
    with torch.no_grad():
        weights["weight"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_compiler_it_is_the_two_functions(monkeypatch):
    flat, loops, plain = both_ways(nn.Linear(9, 2), torch.float32)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    ours, theirs = loops(flat), plain(flat)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("shape", [(21,), (4, 5)])
def test_another_number_of_weights_is_refused(shape):
    _, loops, _ = both_ways(nn.Linear(9, 2), torch.float32)
    with pytest.raises(ValueError, match=r"flat must have shape \(20,\), got"):
        loops(torch.zeros(shape))
