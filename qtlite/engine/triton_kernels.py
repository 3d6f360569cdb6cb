"""The fused simulator on a GPU: Triton's kernels, which PyTorch for CUDA brings, in a CUDA graph.

A step rotates the state's qubits in a few passes of one kernel each. In a pass a program
holds all amplitudes that differ in some neighbouring qubits, and rotates these one by one without
going through memory; the last pass stores each amplitude where the permutation takes it. Backwards
(adjoint differentiation, as in ``torch_loops``) the first pass fetches amplitudes from there, and
each program adds up its share of the angles' gradients, so that sums have a fixed order. The shares
of all steps stay in memory until the end: L * N / 1024 times the states.

The launches of a whole circuit are recorded once and then replayed: launched one by one, hundreds
of blocks would keep the CPU busy longer than the GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import triton
from torch import Tensor
from triton import language as tl

from qtlite.engine import torch_loops
from qtlite.engine.read_block import RealBlock

WIDEST = 10  # qubits of a pass: 1024 amplitudes and their neighbours fit a program's registers
TILE = 1024  # amplitudes of a program, at least, from 10 qubits on
SECTOR = 8  # neighbouring amplitudes of a program, at least: memory is read in 32 bytes
MAX_AMPLITUDES = 2**31 - 1  # of all states: the kernels' places have 32 bits
# of all states: to recall the launches for more would gain little, and keep copies of them all
MAX_RECORDED = 2**22
MAX_RECORDINGS = 8  # of a block


class _Pass(NamedTuple):
    """Neighbouring bits of a basis state's index that a kernel rotates; bit 0 is qubit N - 1."""

    first: int
    width: int
    columns: int  # neighbouring amplitudes that a program takes beside each other

    @property
    def tile(self) -> int:
        """Amplitudes of a program."""
        return self.columns << self.width

    @property
    def n_warps(self) -> int:
        return min(8, max(1, self.tile // 256))


@lru_cache(maxsize=32)
def _passes(n_qubits: int) -> tuple[_Pass, ...]:
    low = min(n_qubits, WIDEST)
    passes = [_Pass(0, low, 1)]
    n_more = -(-(n_qubits - low) // WIDEST)
    edges = [low + round((n_qubits - low) * i / max(n_more, 1)) for i in range(n_more + 1)]
    for first, last in pairwise(edges):
        width = last - first
        passes.append(_Pass(first, width, max(SECTOR, TILE >> width)))
    return tuple(passes)


@triton.jit
def _places(FIRST: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: N803
    """Where this program's amplitudes are: those of equal column one after another."""
    program = tl.program_id(0)
    n_beside: tl.constexpr = (1 << FIRST) // COLUMNS
    start = ((program // n_beside) << (FIRST + WIDTH)) + (program % n_beside) * COLUMNS
    inside = tl.arange(0, COLUMNS << WIDTH)
    return start + ((inside // COLUMNS) << FIRST) + inside % COLUMNS


@triton.jit
def _halves(tile, BELOW: tl.constexpr, SIZE: tl.constexpr):  # noqa: N803
    """The amplitudes with a bit 0 and with it 1, which is BELOW places further; each SIZE // 2."""
    return tl.split(tl.permute(tl.reshape(tile, [SIZE // (2 * BELOW), 2, BELOW]), (0, 2, 1)))


@triton.jit
def _whole(low, high, SIZE: tl.constexpr):  # noqa: N803
    """What ``_halves`` took apart."""
    return tl.reshape(tl.permute(tl.join(low, high), (0, 2, 1)), [SIZE])


@triton.jit(do_not_specialize=["step"])
def _forward(
    states, outputs, cosines, sines, moves, signs, step,
    N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
    MOVES: tl.constexpr, SIGNED: tl.constexpr,  # noqa: N803
):  # fmt: skip
    SIZE: tl.constexpr = COLUMNS << WIDTH  # noqa: N806
    place = _places(FIRST, WIDTH, COLUMNS)
    tile = tl.load(states + place)
    for bit in tl.static_range(WIDTH):
        c = tl.load(cosines + step * N + FIRST + bit)
        s = tl.load(sines + step * N + FIRST + bit)
        low, high = _halves(tile, COLUMNS << bit, SIZE)
        tile = _whole(c * low - s * high, s * low + c * high, SIZE)
    if MOVES:
        basis_state = place & ((1 << N) - 1)
        if SIGNED:
            tile *= tl.load(signs + basis_state)
        place += tl.load(moves + basis_state) - basis_state
    tl.store(outputs + place, tile)


@triton.jit(do_not_specialize=["step", "n_programs"])
def _backward(
    states, gradients, output_states, output_gradients, cosines, sines, moves, signs, overlaps,
    step, n_programs,
    N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
    MOVES: tl.constexpr, SIGNED: tl.constexpr,  # noqa: N803
):  # fmt: skip
    SIZE: tl.constexpr = COLUMNS << WIDTH  # noqa: N806
    place = _places(FIRST, WIDTH, COLUMNS)
    origin = place
    if MOVES:
        basis_state = place & ((1 << N) - 1)
        origin += tl.load(moves + basis_state) - basis_state
    state = tl.load(states + origin)
    gradient = tl.load(gradients + origin)
    if MOVES and SIGNED:
        sign = tl.load(signs + basis_state)
        state *= sign
        gradient *= sign
    for bit in tl.static_range(WIDTH):
        c = tl.load(cosines + step * N + FIRST + bit)
        s = tl.load(sines + step * N + FIRST + bit)
        low, high = _halves(state, COLUMNS << bit, SIZE)
        low_gradient, high_gradient = _halves(gradient, COLUMNS << bit, SIZE)
        # <gradient| -iY |state>, which no rotation of the step changes
        overlap = tl.sum(tl.reshape(high_gradient * low - low_gradient * high, [SIZE // 2]), 0)
        at = (step.to(tl.int64) * WIDTH + bit) * n_programs + tl.program_id(0)
        tl.store(overlaps + at, overlap)
        state = _whole(c * low + s * high, c * high - s * low, SIZE)
        gradient = _whole(
            c * low_gradient + s * high_gradient, c * high_gradient - s * low_gradient, SIZE
        )
    tl.store(output_states + place, state)
    tl.store(output_gradients + place, gradient)


@triton.jit
def _set_to_zero(number):
    tl.store(number, 0.0)


def try_out(device: torch.device) -> None:
    """Compile and launch a kernel: raises whatever is in the way, a missing C compiler say."""
    with torch.cuda.device(device):
        _set_to_zero[(1,)](torch.empty(1, device=device))


def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``; see ``torch_loops.apply``."""
    if states.numel() > MAX_AMPLITUDES:
        return torch_loops.apply(block, angles, states)
    if len(angles) == 0 or len(states) == 0:
        return states.clone()
    (final,) = _replayed(_apply, block, angles, states)
    return final


def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor, *, initial: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Undo the steps on the final states and their gradients; see ``torch_loops.apply_adjoint``."""
    if states.numel() > MAX_AMPLITUDES:
        return torch_loops.apply_adjoint(block, angles, states, gradients, initial=initial)
    if len(angles) == 0 or len(states) == 0:
        return torch.zeros_like(angles), gradients.clone() if initial else None
    angle_gradients, state_gradients = _replayed(_apply_adjoint, block, angles, states, gradients)
    return angle_gradients, state_gradients if initial else None


def _apply(block: RealBlock, angles: Tensor, states: Tensor) -> tuple[Tensor, ...]:
    moves, signs, rotated = _tables(block, states)
    cosines, sines = _rotations(angles, rotated)
    passes = _passes(block.n_qubits)
    here = _copy(states)
    there = torch.empty_like(here)
    for step in range(len(angles)):
        own = step % block.n_steps
        for each in passes:
            is_last = each is passes[-1]
            _forward[(states.numel() // each.tile,)](
                here, there if is_last else here, cosines, sines,
                moves[own], signs if signs is None else signs[own], step,
                block.n_qubits, *each, is_last, signs is not None, num_warps=each.n_warps,
            )  # fmt: skip
        here, there = there, here
    return (here,)


def _apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor
) -> tuple[Tensor, ...]:
    moves, signs, rotated = _tables(block, states)
    cosines, sines = _rotations(angles, rotated)
    passes = _passes(block.n_qubits)
    here = _copy(states), _copy(gradients)
    there = torch.empty_like(here[0]), torch.empty_like(here[1])
    overlaps = [
        states.new_empty(len(angles), each.width, states.numel() // each.tile) for each in passes
    ]
    for step in reversed(range(len(angles))):
        own = step % block.n_steps
        for each, sums in zip(passes, overlaps, strict=True):
            is_first = each is passes[0]
            _backward[(sums.shape[2],)](
                *(here if is_first else there), *there, cosines, sines,
                moves[own], signs if signs is None else signs[own], sums, step, sums.shape[2],
                block.n_qubits, *each, is_first, signs is not None, num_warps=each.n_warps,
            )  # fmt: skip
        here, there = there, here
    found = torch.cat([sums.sum(-1) for sums in overlaps], dim=1).flip(1) / 2
    return found * _of_each_step(rotated, angles), here[1]


def _rotations(angles: Tensor, rotated: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of half the angles, shape (L * S, N), bit 0 first."""
    half = torch.where(_of_each_step(rotated, angles), angles / 2, 0).flip(1).contiguous()
    return half.cos(), half.sin()


def _copy(states: Tensor) -> Tensor:
    """In the order of its indices, which the kernels take for granted."""
    return states.clone(memory_format=torch.contiguous_format)


def _of_each_step(rotated: Tensor, angles: Tensor) -> Tensor:
    return rotated.repeat(len(angles) // len(rotated), 1)


class _Tables(NamedTuple):
    """What a block's steps do to basis states."""

    moves: Tensor  # (S, 2**N) int32: after the step, the amplitude at j is at moves[j]
    signs: Tensor | None  # (S, 2**N): times this
    rotated: Tensor  # (S, N) bool


_TABLES: WeakKeyDictionary[RealBlock, dict] = WeakKeyDictionary()


def _tables(block: RealBlock, like: Tensor) -> _Tables:
    tables = _TABLES.setdefault(block, {})
    key = like.device, like.dtype
    if key not in tables:
        signs = block.inverse_signs
        with torch.inference_mode(False):  # cached tensors must not be inference tensors
            tables[key] = _Tables(
                torch.as_tensor(block.inverse_sources, device=like.device),
                None if signs is None else torch.as_tensor(signs).to(like),
                torch.as_tensor(block.rotated, device=like.device),
            )
    return tables[key]


class _Recording:
    """A function of tensors of fixed shapes as a CUDA graph: its launches, recorded once."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]):
        self.inputs = tuple(tensor.clone() for tensor in inputs)
        self.graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            function(*self.inputs)  # compiles, which cannot be recorded
        stream = torch.cuda.current_stream()
        stream.wait_stream(aside)
        try:
            with torch.cuda.graph(self.graph, stream=aside, capture_error_mode="thread_local"):
                self.outputs = function(*self.inputs)
        finally:
            torch.cuda.set_stream(stream)  # where PyTorch leaves ``aside`` if recording fails
        self.done = torch.cuda.Event()
        self.lock = Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with self.lock:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.done)  # another stream may still read what is overwritten now
            for ours, given in zip(self.inputs, inputs, strict=True):
                ours.copy_(given)
            self.graph.replay()
            outputs = tuple(tensor.clone() for tensor in self.outputs)
            self.done.record(stream)
        return outputs


_RECORDINGS: WeakKeyDictionary[RealBlock, dict[tuple, _Recording | None]] = WeakKeyDictionary()
_RECORDING = Lock()  # PyTorch can record one graph at a time


def _replayed(
    function: Callable[..., tuple[Tensor, ...]], block: RealBlock, *inputs: Tensor
) -> tuple[Tensor, ...]:
    _, states, *_ = inputs
    if not states.is_cuda:  # Triton's interpreter, for tests
        return function(block, *inputs)
    with torch.cuda.device(states.device):
        # as a part of a larger graph, or where the GPU is slower than its launches
        if torch.cuda.is_current_stream_capturing() or states.numel() > MAX_RECORDED:
            return function(block, *inputs)
        key = (function, states.device, *((tensor.shape, tensor.dtype) for tensor in inputs))
        with _RECORDING:
            recordings = _RECORDINGS.setdefault(block, {})
            if key in recordings:
                recording = recordings.pop(key)
            else:
                if len(recordings) >= MAX_RECORDINGS:
                    oldest = recordings.pop(next(iter(recordings)))  # called longest ago
                    if oldest is not None:
                        oldest.done.synchronize()  # another stream may still replay it
                recording = _record(partial(function, block), inputs)
            recordings[key] = recording
        return function(block, *inputs) if recording is None else recording(*inputs)


def _record(
    function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
) -> _Recording | None:
    """None if CUDA would not have it: too little memory, or another thread came between."""
    try:
        with torch.inference_mode(False), torch.no_grad():  # for later calls too
            return _Recording(function, inputs)
    except RuntimeError as reason:
        warnings.warn(
            f"the circuit must be recorded as a CUDA graph to run fast, got {reason!r}: it is "
            "launched kernel by kernel",
            stacklevel=2,
        )
        return None
