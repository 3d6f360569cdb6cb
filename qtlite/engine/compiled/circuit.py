"""The fused simulator in compiled loops (Numba): the fast one on a CPU.

A state is read as vectors of 64 bytes: the last qubits (4 in float32, 3 in float64) lie inside a
vector, the others number the vectors. ``walk_plan`` says what is done step by step, ``walk_loops``
goes through the memory, ``rotation_sweep`` rotates in registers. torch.get_num_threads() rules here
too: where it pays, the work is shared among so many threads.

The backward pass undoes each step on the state and on its gradient together and keeps no other
state. ``expectations`` takes a batch of product states one after the other, each from its qubits to
<Z> (and from the gradients of <Z> back to those of its qubits).

The first call for a dtype compiles for about 11 s on the benchmarks' machine (13 s for a batch, 17
s for ``expectations``) and stores the code beside this file or in the user's cache folder; later
processes load it in 0.4 s.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from qtlite.engine.compiled.apply import PADDING, new_queue, walk, walk_batch
from qtlite.engine.compiled.expectations import expect, expect_adjoint
from qtlite.engine.compiled.plan import Gates, Plan, angle_gradients, lay_out
from qtlite.engine.compiled.vectors import VECTOR_BYTES
from qtlite.engine.read_block import RealBlock

# vectors, 2 MB: smaller states stay in one core's L2 cache, and would be slow to fetch from there
SHARED = 2**15
SHARED_WORK = 2**23  # amplitudes times steps: with fewer, one thread was faster, too
GROUPS = 32  # of the states in a batch: what threads share out
KEPT_BYTES = 2**26  # of memory from one walk for the next: enough for a gradient of 22 qubits
PARALLEL_WORK = 2**21  # amplitudes times steps: less is done before a thread has started

_spare: list[np.ndarray] = []  # memory of the last walk
_busy_until = [0.0]  # seconds: no workers are started before, since the last were cancelled


def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        states: amplitudes to start from, shape (B, 2**N), dtype of ``angles``.

    Returns:
        Amplitudes, shape (B, 2**N).
    """
    if len(angles) == 0:
        return states.clone()
    final, _ = _walk(*lay_out(block, angles.numpy(force=True)), (states.numpy(force=True),))
    return torch.from_numpy(final)


def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor, *, initial: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Walk back from the final states and the loss's gradients with respect to them.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        states: what ``apply`` returned, shape (B, 2**N).
        gradients: d loss / d states, shape (B, 2**N).
        initial: whether the initial states' gradient is wanted.

    Returns:
        d loss / d angles, shape (L * S, N), and d loss / d initial states, shape (B, 2**N), or
        None.
    """
    if len(angles) == 0:
        return torch.zeros_like(angles), gradients.clone() if initial else None
    plan, gates = lay_out(block, angles.numpy(force=True), back=True)
    end, overlaps = _walk(
        plan, gates, (states.numpy(force=True), gradients.numpy(force=True)), initial
    )
    found = torch.from_numpy(angle_gradients(plan, gates, overlaps))
    return found, torch.from_numpy(end) if initial else None


def expectations(
    block: RealBlock, angles: Tensor, qubits: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """<Z> of each qubit after the block's steps, run once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        qubits: real and imaginary parts of the product states' qubits, shape (B, N, 2, 2).
        keep: whether the final states are wanted.

    Returns:
        Shape (B, N), and what ``expectations_adjoint`` needs of the final states.
    """
    qubits = qubits.detach().contiguous()
    plan, gates = lay_out(block, angles.numpy(force=True), gap=0)
    values = qubits.new_empty(qubits.shape[:2])
    finals = qubits.new_empty(len(qubits) if keep else 0, 2, plan.size)
    queue = new_queue.py_func(0, plan.shape, 0)
    arguments = (qubits.numpy(), values.numpy(), finals.numpy(), *plan.walk(gates), queue)
    _run_with_workers(expect, arguments, 2 * len(qubits) * plan.work, len(qubits))
    return values, finals


def expectations_adjoint(
    block: RealBlock, angles: Tensor, qubits: Tensor, finals: Tensor, gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Walk back from the final states and the loss's gradients with respect to <Z>.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        qubits: as given to ``expectations``, shape (B, N, 2, 2).
        finals: the final states that ``expectations`` kept.
        gradients: d loss / d <Z>, shape (B, N).

    Returns:
        d loss / d angles, shape (L * S, N), and d loss / d qubits, shape (B, N, 2, 2).
    """
    plan, gates = lay_out(block, angles.numpy(force=True), back=True, gap=0)
    qubits = qubits.detach().contiguous()
    qubit_gradients = torch.empty_like(qubits)
    overlaps = np.zeros((len(qubits), *gates.tan.shape))
    arguments = (
        qubits.numpy(), finals.numpy(), gradients.detach().contiguous().numpy(),
        qubit_gradients.numpy(), overlaps, *plan.walk(gates), new_queue.py_func(0, plan.shape, 0),
    )  # fmt: skip
    _run_with_workers(expect_adjoint, arguments, 2 * len(qubits) * plan.work, len(qubits))
    return torch.from_numpy(angle_gradients(plan, gates, overlaps.sum(0))), qubit_gradients


def _walk(
    plan: Plan, gates: Gates, states: tuple[np.ndarray, ...], wanted: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """Walk; return the last of ``states`` at the end, if ``wanted``, and the overlaps.

    Shapes (B, 2**N), and that of ``gates.tan``.
    """
    lanes, n_bits, n_high, gap = plan.shape
    chunk = lanes << n_bits
    n_states = len(states[0])
    divided = (n_states, 1 << n_high, chunk + gap)  # of an array

    size = n_states * (chunk + gap << n_high)
    step = size + PADDING * lanes
    n_arrays = len(states) * min(1 + plan.n_moves, 2)
    memory = _memory(n_arrays * step, gates.tan.dtype)
    arrays = [memory[start : start + size] for start in range(0, n_arrays * step, step)]
    here, there = tuple(arrays[: len(states)]), tuple(arrays[-len(states) :])
    for array, state in zip(here, states, strict=True):
        if plan.idle:
            state = np.pad(state, ((0, 0), (0, plan.size - state.shape[1])))
        array.reshape(divided)[:, :, :chunk] = state.reshape(n_states, 1 << n_high, chunk)
    final, end = None, there
    if wanted:
        final = np.empty((n_states, plan.size), memory.dtype)
        if plan.last >= 0:  # it ends in the caller's memory
            end = (final.reshape(-1),)

    n_groups = min(n_states, GROUPS)
    n_steps, n_qubits = gates.tan.shape
    n_overlaps = n_qubits if len(states) == 2 else 0
    overlaps = np.zeros((n_groups, n_steps, n_overlaps))
    queue = new_queue.py_func(n_steps, plan.shape, n_overlaps)
    if n_states == 1:
        loops, arguments = walk, (here, there, end, 0, *plan.walk(gates), overlaps[0], queue)
        shared = plan.size >= SHARED * lanes and plan.work > SHARED_WORK
        n_jobs = 1 << n_high if shared else 1
    else:
        loops, arguments = walk_batch, (here, there, end, *plan.walk(gates), overlaps, queue)
        n_jobs = n_groups
    _run_with_workers(loops, arguments, n_states * plan.work, n_jobs)
    if wanted and plan.last < 0:
        walked = (here, there)[plan.n_moves % 2][-1].reshape(divided)[:, :, :chunk]
        final[:] = walked.reshape(n_states, plan.size)
    if wanted and plan.idle:
        final = np.ascontiguousarray(final[:, : plan.size >> plan.idle])
    if memory.nbytes <= KEPT_BYTES:
        _spare[:] = [memory]
    return final, overlaps[0] if n_groups == 1 else overlaps.sum(0)


def _memory(n: int, dtype: np.dtype) -> np.ndarray:
    """Room for n numbers, on whole vectors; the last walk's if it fits: new pages cost a sixth."""
    try:
        memory = _spare.pop()  # which nobody else has then
        if memory.dtype == dtype and memory.size >= n:
            return memory
    except IndexError:
        pass
    # numpy's memory, not torch's: it asks the system for huge pages
    memory = np.empty(n + VECTOR_BYTES // dtype.itemsize, dtype)
    start = -memory.ctypes.data % VECTOR_BYTES // dtype.itemsize
    return memory[start : start + n]


def _run_with_workers(loops: Callable, arguments: tuple, work: int, n_jobs: int) -> None:
    """Call ``loops``, whose last argument is its queue, here and where it pays in other threads."""
    failures: list[BaseException] = []
    if work > PARALLEL_WORK and n_jobs > 1 and monotonic() > _busy_until[0]:
        for _ in range(min(torch.get_num_threads(), n_jobs) - 1):
            try:  # not threading.Thread, whose start() waits for the thread to run
                _thread.start_new_thread(_work, (loops, arguments, failures))
            except RuntimeError:  # the system gives no more threads: the caller does it alone
                break
    loops(*arguments, False)
    if failures:
        raise failures[0]
    if arguments[-1][0][-1]:
        _busy_until[0] = monotonic() + 1


def _work(loops: Callable, arguments: tuple, failures: list[BaseException]) -> None:
    """Run a worker; if it dies, the caller is not left waiting for it."""
    try:
        loops(*arguments, True)
    except BaseException as error:  # such as MemoryError
        failures.append(error)
        arguments[-1][0][-1] += 1
