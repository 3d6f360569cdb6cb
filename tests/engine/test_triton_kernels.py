"""Triton's kernels against plain torch: on a GPU if there is one, else in Triton's interpreter."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from qtlite.circuit import ry_linear_cnot
from qtlite.engine import circuit as fused
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.read_block import read_block
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.train import loop as training

pytest.importorskip("triton", reason="comes with PyTorch for CUDA")
from qtlite.engine import triton_kernels as fused_triton

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
on_gpu = pytest.mark.skipif(not HAS_GPU, reason="there is no CUDA device")
TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-11}


def signed_steps(circuit, angles):
    """Three steps with signs, qubits that a step leaves alone, shared angles and an odd order."""
    last = circuit._nqubits - 1
    circuit.h(0)
    circuit.cry(0, last, theta=angles[0])
    circuit.z(last)
    circuit.swap(0, 1)
    circuit.ry(1, theta=2 * angles[1])
    circuit.toffoli(last, 1, 0)
    circuit.x(1)
    circuit.ry(0, theta=angles[0] - 0.3)


def chain(circuit, angles):
    """The paper's block with two angles for all its qubits."""
    ry_linear_cnot(circuit, [angles[qubit % 2] for qubit in range(circuit._nqubits)])


def sample(block_function, n_qubits, n_blocks, n_states, dtype):
    """A block, and on the CPU: angles, states and gradients to start with."""
    block = read_block(block_function, n_qubits, 2)
    generator = torch.Generator().manual_seed(n_qubits)
    numbers = torch.randn(2, n_states, 2**n_qubits, generator=generator, dtype=torch.float64)
    numbers /= numbers.norm(dim=-1, keepdim=True)
    angles = torch.randn(n_blocks, 2, generator=generator, dtype=torch.float64) * 3
    return block, block.step_angles(angles).to(dtype), *numbers.to(dtype)


def on_device(*tensors):
    return [tensor.to(DEVICE) for tensor in tensors]


def assert_same(found, expected, dtype):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            ours.cpu().double(), theirs.double(), rtol=0, atol=TOLERANCES[dtype]
        )


def assert_like_torch(block, *tensors, change=lambda tensor: tensor):
    """The kernels' states and gradients are those of torch in double precision."""
    angles, states, gradients = map(change, on_device(*tensors))
    final = fused_triton.apply(block, angles, states)
    found = final, *fused_triton.apply_adjoint(block, angles, change(final), gradients)
    angles, states, gradients = (tensor.double() for tensor in tensors)
    final = fused_torch.apply(block, angles, states)
    expected = final, *fused_torch.apply_adjoint(block, angles, final, gradients)
    assert_same(found, expected, tensors[0].dtype)


@pytest.mark.parametrize(
    ("block_function", "n_qubits"),
    [
        *((chain, n) for n in (2, 5, 11)),
        (signed_steps, 5),
        *(  # the interpreter would take minutes
            pytest.param(block, n, marks=on_gpu)
            for block in (chain, signed_steps)
            for n in (9, 10, 12, 13, 16, 19, 21)
        ),
    ],
)
@pytest.mark.parametrize(("n_states", "dtype"), [(1, torch.float32), (3, torch.float64)])
def test_the_kernels_do_what_torch_does(block_function, n_qubits, n_states, dtype):
    assert_like_torch(*sample(block_function, n_qubits, 3, n_states, dtype))


def test_the_order_of_the_inputs_in_memory_does_not_matter():
    def turned(tensor):
        other = tensor.mT.contiguous().mT
        assert not other.is_contiguous()
        return other

    assert_like_torch(*sample(chain, 5, 3, 4, torch.float64), change=turned)


def test_more_amplitudes_than_the_kernels_count_go_through_torch(monkeypatch):
    monkeypatch.setattr(fused_triton, "MAX_AMPLITUDES", 127)
    monkeypatch.setattr(fused_triton, "_replayed", None)
    assert_like_torch(*sample(chain, 5, 3, 4, torch.float64))


def test_what_an_inference_has_left_behind_serves_training():
    block, angles, states, gradients = sample(signed_steps, 3, 2, 2, torch.float64)
    ours = on_device(angles, states, gradients)
    with torch.inference_mode():
        fused_triton.apply(block, *ours[:2])
        fused_triton.apply_adjoint(block, *ours)
    # an inference tensor would refuse to be saved for a backward pass
    factor = torch.ones_like(ours[0], requires_grad=True)
    (fused_triton.apply_adjoint(block, *ours)[0] * factor).sum().backward()
    expected = fused_torch.apply_adjoint(block, angles, states, gradients)[0]
    torch.testing.assert_close(factor.grad.cpu(), expected)


def test_one_qubit_and_no_blocks():
    block = read_block(lambda circuit, angles: circuit.ry(0, theta=angles[0]), 1, 1)
    state = torch.tensor([[1.0, 0.0]], device=DEVICE)
    angles = torch.tensor([[torch.pi / 2]], device=DEVICE)
    final = fused_triton.apply(block, angles, state)
    torch.testing.assert_close(final.cpu(), torch.full((1, 2), 0.5**0.5))
    torch.testing.assert_close(fused_triton.apply(block, angles[:0], state), state)
    found, gradients = fused_triton.apply_adjoint(block, angles[:0], state, state, initial=False)
    assert found.shape == (0, 1)
    assert gradients is None


# --------------------------------------------------------------------------- what needs a GPU


@on_gpu
def test_a_gpu_has_these_kernels():
    assert fused.loops_for(torch.device("cuda")) is fused_triton
    assert fused.loops_for(torch.device("cuda"), torch.bfloat16) is fused_torch


@on_gpu
def test_threads_and_streams_do_not_get_into_each_others_way():
    block, angles, states, _ = sample(chain, 13, 3, 1, torch.float32)
    states, several = states.cuda(), [angles.cuda() * scale for scale in range(1, 9)]
    expected = [fused_triton._apply(block, each, states)[0] for each in several]
    torch.cuda.synchronize()

    def in_a_stream_of_its_own(each):
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [fused_triton.apply(block, each, states) for _ in range(20)][-1]
            torch.cuda.current_stream().synchronize()
        return found

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(in_a_stream_of_its_own, several))
    assert all(map(torch.equal, found, expected))


def test_what_cannot_be_recorded_is_said_and_launched_instead(monkeypatch):
    def refuse(*_):
        raise torch.OutOfMemoryError("no room for a graph")

    monkeypatch.setattr(fused_triton, "_Recording", refuse)
    with pytest.warns(UserWarning, match="must be recorded as a CUDA graph .*no room"):
        assert fused_triton._record(lambda: (), ()) is None


@on_gpu
def test_a_larger_graph_may_hold_the_circuit():
    block = read_block(chain, 13, 2)
    angles = torch.randn(3, 2, device=DEVICE)
    expected = fused.probabilities(fused.Prepared(block, ""), angles)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = fused.probabilities(fused.Prepared(block, ""), angles)
    graph.replay()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@on_gpu
@pytest.mark.parametrize(
    ("dataset", "model", "n_blocks"),
    [("mnist", "qt", 16), ("cifar10", "qt", 19), ("mnist", "qcml", 13)],
)
def test_a_step_on_a_gpu_is_the_step_on_a_cpu(dataset, model, n_blocks):
    config = recipe_config("qtlite", dataset, model=model, n_blocks=n_blocks)
    shape = (1, 28, 28) if dataset == "mnist" else (3, 32, 32)
    images = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    for device in ("cpu", "cuda"):
        model = training.build_model(config).to(device)
        loss = model(images.to(device)).logsumexp(1).sum()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    torch.backends.cudnn.allow_tf32 = before
    for cpu, gpu in zip(*found, strict=True):
        scale = cpu.abs().max().item()
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=0, atol=2e-3 * scale)


@on_gpu
def test_training_on_a_gpu_repeats_and_resumes_bit_for_bit(tmp_path, interrupted_after):
    digits = load_dataset("digits")
    config = recipe_config("qtlite", "digits", epochs=3)

    def run(folder=None):
        return training.train(config, digits, folder, device="cuda", progress=False).record

    whole, again = run(), run()
    assert whole["test_accuracy"] > 0.3
    assert [epoch["train_loss"] for epoch in again["history"]] == [
        epoch["train_loss"] for epoch in whole["history"]
    ]
    assert whole["hardware"]["accelerator"]
    with interrupted_after(2):
        run(tmp_path)
    resumed = run(tmp_path)
    for key in ("test_loss", "train_loss", "test_accuracy"):
        assert resumed[key] == whole[key]
