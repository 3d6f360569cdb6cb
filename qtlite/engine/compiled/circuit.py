"""The fused simulator in compiled loops (Numba): the fast one on a CPU.

A state is read as vectors of 64 bytes: the last qubits (4 in float32, 3 in float64) lie inside a
vector, the others number the vectors. ``plan`` says what is done step by step, ``apply`` and
``divided`` go through the memory, ``rotations`` rotates in registers. torch.get_num_threads() rules
here too: where it pays, the work is shared among so many threads.

The backward pass undoes each step on the state and on its gradient together (adjoint
differentiation) and keeps no other state.

The first call for a dtype compiles for three seconds (a divided state five) and stores the code
beside this file or in the user's cache folder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qtlite.engine.compiled.apply import apply_whole, gather
from qtlite.engine.compiled.divided import apply_divided, new_queue
from qtlite.engine.compiled.plan import Gates, Plan, angle_gradients, lay_out
from qtlite.engine.compiled.vectors import PADDING, empty_vectors
from qtlite.engine.read_block import RealBlock
from qtlite.engine.threads import run_with_workers, share_out

# vectors, 2 MB: smaller states stay in one core's L2 cache, and would be slow to fetch from there
SHARED = 2**15
SHARED_WORK = 2**23  # amplitudes times steps: with fewer, one thread was faster, too
GROUPS = 32  # of the states in a batch: what threads share out
KEPT_BYTES = 2**26  # of memory from one call for the next: enough for a gradient of 22 qubits
PARALLEL_WORK = 2**21  # amplitudes times steps: less is done before a thread has started

_spare: list[np.ndarray] = []  # memory of the last call


def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``; see ``torch_loops.apply``."""
    if len(angles) == 0 or len(states) == 0:
        return states.clone()
    final, _ = _apply(*lay_out(block, angles.numpy(force=True)), (states.numpy(force=True),))
    return torch.from_numpy(final)


def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor, *, initial: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Undo the steps on the final states and their gradients; see ``torch_loops.apply_adjoint``."""
    if len(angles) == 0 or len(states) == 0:
        return torch.zeros_like(angles), gradients.clone() if initial else None
    plan, gates = lay_out(block, angles.numpy(force=True), back=True)
    pair = states.numpy(force=True), gradients.numpy(force=True)
    end, overlaps = _apply(plan, gates, pair, initial)
    found = torch.from_numpy(angle_gradients(plan, gates, overlaps))
    return found, torch.from_numpy(end) if initial else None


def _apply(
    plan: Plan, gates: Gates, states: tuple[np.ndarray, ...], wanted: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the last of ``states`` at the end, if ``wanted``, and the overlaps.

    Shapes (B, 2**N), and that of ``gates.tan``.
    """
    lanes, n_bits, n_high, gap = plan.shape
    n_states, chunk, dtype = len(states[0]), lanes << n_bits, gates.tan.dtype
    at_once = n_states if n_high == 0 else 1  # large states one after the other
    divided = (at_once, 1 << n_high, chunk + gap)  # of an array
    size = at_once * (chunk + gap << n_high)
    step = size + PADDING * lanes
    n_arrays = len(states) * min(1 + plan.n_moves, 2)
    memory = _memory(n_arrays * step, gates.tan)
    arrays = [memory[start : start + size] for start in range(0, n_arrays * step, step)]
    here, there = tuple(arrays[: len(states)]), tuple(arrays[-len(states) :])
    end = (here, there)[plan.n_moves % 2][-1]
    final = np.empty((n_states, plan.size), dtype) if wanted else None
    n_steps, n_qubits = gates.tan.shape
    n_groups = min(at_once, GROUPS)
    overlaps = np.zeros((n_groups, n_steps, n_qubits if len(states) == 2 else 0))
    for first in range(0, n_states, at_once):
        own = slice(first, first + at_once)
        for array, state in zip(here, states, strict=True):
            if plan.idle:
                state = np.pad(state, ((0, 0), (0, plan.size - state.shape[1])))
            array.reshape(divided)[:, :, :chunk] = state[own].reshape(at_once, -1, chunk)
        if n_high == 0:
            _run_whole(plan, gates, here, there, end, final, overlaps)
        else:
            _run_divided(plan, gates, here, there, final[first] if wanted else end, overlaps[0])
        if wanted and plan.last < 0:
            found = end.reshape(divided)[:, :, :chunk]
            final[own] = found.reshape(at_once, plan.size)
    if wanted and plan.idle:
        final = np.ascontiguousarray(final[:, : plan.size >> plan.idle])
    if memory.nbytes <= KEPT_BYTES:
        _spare[:] = [memory]
    return final, overlaps[0] if n_groups == 1 else overlaps.sum(0)


def _run_whole(plan, gates, here, there, end, final, overlaps) -> None:
    """Share the states of a batch among threads, in groups: sums have a fixed order."""
    n_states, n_groups = len(here[0]) // plan.size, len(overlaps)
    loops = plan.loops(gates)
    works = n_states * plan.work > PARALLEL_WORK
    n_shares = min(torch.get_num_threads(), n_groups) if works else 1

    def work(share: int) -> None:
        for group in range(share, n_groups, n_shares):
            first, stop = (n_states * each // n_groups for each in (group, group + 1))
            apply_whole(here, there, (first, stop), *loops, overlaps[group])
            if final is not None and plan.last >= 0:
                for state in range(first, stop):
                    start = state * plan.size
                    gather(end, start, final[state], 0, 0, plan.size, plan.permutations, plan.last)

    share_out(n_shares, work)


def _run_divided(plan, gates, here, there, final, overlaps) -> None:
    """Share the chunks of a state among threads."""
    lanes, n_bits, n_high, _ = plan.shape
    shared = plan.size >= SHARED * lanes and plan.work > max(SHARED_WORK, PARALLEL_WORK)
    n_threads = min(torch.get_num_threads(), 1 << n_high) if shared else 1
    size = n_threads * lanes << n_bits
    memory = empty_vectors(len(here) * (size + PADDING * lanes), here[0])
    buffers = tuple(each[:size] for each in np.split(memory, len(here)))
    queue = new_queue(len(plan.order), plan.shape, overlaps.shape[1])
    arguments = (here, there, buffers, final, plan.last, *plan.loops(gates), overlaps, queue)
    run_with_workers(apply_divided, arguments, n_threads)


def _memory(n: int, like: np.ndarray) -> np.ndarray:
    """Room for n numbers, on whole vectors; the last call's if it fits: new pages cost a sixth."""
    try:
        memory = _spare.pop()  # which nobody else has then
        if memory.dtype == like.dtype and memory.size >= n:
            return memory
    except IndexError:
        pass
    # numpy's memory, not torch's: it asks the system for huge pages
    return empty_vectors(n, like)
