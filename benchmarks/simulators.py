"""Measure value + gradient, training steps and the floor; write benchmarks/simulators.json.

    python -m benchmarks.simulators            everything, some minutes
    python -m benchmarks.simulators --quick    the tables without the plots' sweeps
    python -m benchmarks.simulators --report   README and plots anew from the JSON, no measurement

Times are medians (``timing``). Peers that are not installed (``pip install -e .[bench]`` brings
JAX) are left out and named in the JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.engines import ENGINES, Engine, qtlite
from benchmarks.report import write_plots, write_readme
from benchmarks.timing import measure, measure_in_turn, quotient
from qtlite import acceleration
from qtlite.circuit import ry_linear_cnot
from qtlite.engine.compiled import circuit as fused_numba
from qtlite.engine.read_block import read_block
from qtlite.experiments.models.build import build_model
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import package_versions, processor_name, write_json
from qtlite.experiments.train.process import keep_freed_memory
from qtlite.mapping import mapping_inputs

RESULTS = Path(__file__).with_name("simulators.json")
CASES = ((13, 16), (13, 121), (19, 19), (19, 323))
QUBITS = range(13, 23)  # of the growth
SLOW = 2.5  # seconds: a sweep over the qubits ends with a call that takes longer
PACKAGES = (
    "torch", "numba", "numpy", "tensorcircuit-ng", "pennylane", "pennylane-lightning", "jax",
    "torchquantum",
)  # fmt: skip


def measure_engine(engine: Engine, n_qubits: int, n_blocks: int) -> dict[str, Any]:
    """Time one case; where the engine is too slow for it, two smaller numbers of blocks."""
    most = min(n_blocks, max(2, engine.largest >> n_qubits))
    measured = [most] if most == n_blocks else [most // 2, most]
    found = []
    for threads in engine.threads:
        torch.set_num_threads(threads)
        times = [measure(engine.prepare(n_qubits, count)) for count in measured]
        found.append((threads, times[-1] | _on_a_line(measured, times, n_blocks)))
    threads, times = min(found, key=lambda pair: pair[1]["median_s"])
    return {
        "engine": engine.name,
        "allowed_threads": " or ".join(map(str, engine.threads)),
        "threads": threads,
        "n_qubits": n_qubits,
        "n_blocks": n_blocks,
        "n_blocks_measured": measured,
        **times,
    }


def _on_a_line(counts: list[int], times: list[dict[str, Any]], n_blocks: int) -> dict[str, float]:
    """Times of so many blocks, on the line through those measured: a call has a cost of its own."""
    if counts == [n_blocks]:
        return {}
    (few, many), (sooner, later) = counts, times
    return {
        key: later[key] + (n_blocks - many) * (later[key] - sooner[key]) / (many - few)
        for key in ("median_s", "min_s")
    }


def agreeing(engines: tuple[Engine, ...]) -> tuple[list[Engine], dict[str, str]]:
    """The engines that are installed and compute what ours computes; why others are left out."""
    value, gradient = qtlite(fused_numba)(5, 3)()
    good, left_out = [], {}
    for engine in engines:
        try:
            theirs, slope = engine.prepare(5, 3)()
        except ImportError as error:
            left_out[engine.name] = str(error)
            continue
        np.testing.assert_allclose(theirs, value, atol=1e-4, err_msg=engine.name)
        np.testing.assert_allclose(slope, gradient, atol=1e-4, err_msg=engine.name)
        good.append(engine)
    return good, left_out


# ---------------------------------------------------------------------------------------- the floor


@numba.njit(fastmath=True)
def _multiply_and_add(values: np.ndarray, a: np.float32, b: np.float32) -> None:
    for i in range(values.size):
        value = values[i]
        for _ in range(8):
            value = value * a + b
        values[i] = value


# a call, and how many flops or bytes are its work
Work = tuple[Callable[[], object], int]


def flop_calls() -> dict[str, Work]:
    """Single-precision flops in two ways, of which the faster is what a processor does at most.

    Chains of 8 multiply-adds in registers on an array that fits the first cache, for which LLVM may
    take vectors of half the width, on one thread; and a product of matrices, on all threads that
    PyTorch may take.
    """
    values, n_chains = np.ones(4096, np.float32), 200
    a, b = np.float32(0.5), np.float32(0.25)

    def chains():
        for _ in range(n_chains):
            _multiply_and_add(values, a, b)

    matrix = torch.ones(1024, 1024)
    return {
        "chains": (chains, 2 * 8 * values.size * n_chains),
        "product": (lambda: matrix @ matrix, 2 * 1024**3),
    }


def copies(n_qubits: int) -> Work:
    """Copies of a state."""
    source, n_copies = np.ones(2**n_qubits, np.float32), 2**22 >> n_qubits
    target = np.empty_like(source)

    def copy():
        for _ in range(n_copies):
            np.copyto(target, source)

    return copy, 2 * source.nbytes * n_copies


def rates(works: dict[str, Work], times: dict[Any, dict[str, Any]]) -> dict[str, float]:
    """Flops or bytes per second."""
    return {name: amount / times[name]["median_s"] for name, (_, amount) in works.items()}


def forward_and_floor() -> Iterator[dict[str, Any]]:
    """The forward loops alone on one thread, and the least time they could take on this machine.

    An Ry costs 2 flops an amplitude (the cosine, common to all, aside); a block reads and writes
    the state once. What the machine can do is measured in turn with them.
    """
    torch.set_num_threads(1)
    sizes = (13, 121), (19, 19)
    works = flop_calls() | {f"copy_{n_qubits}": copies(n_qubits) for n_qubits, _ in sizes}
    calls: dict[Hashable, Callable[[], object]] = {name: call for name, (call, _) in works.items()}
    for n_qubits, n_blocks in sizes:
        block = read_block(ry_linear_cnot, n_qubits, n_qubits)
        arguments = block, torch.rand(n_blocks, n_qubits), torch.eye(1, 2**n_qubits)
        calls[n_qubits, n_blocks] = partial(fused_numba.apply, *arguments)
    times = measure_in_turn(calls)
    peaks = rates(works, times)
    flops_per_s = max(peaks["chains"], peaks["product"])
    for n_qubits, n_blocks in sizes:
        amplitudes = 2**n_qubits * n_blocks
        yield {
            "n_qubits": n_qubits,
            "n_blocks": n_blocks,
            "flops_per_s": flops_per_s,
            "flops_s": 2 * n_qubits * amplitudes / flops_per_s,
            "bytes_s": 2 * 4 * amplitudes / peaks[f"copy_{n_qubits}"],
            **times[n_qubits, n_blocks],
        }


def growth() -> Iterator[dict[str, Any]]:
    """Our time against qubits, whose numbers take turns."""
    for n_blocks in (8, 32):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            calls = {n_qubits: qtlite(fused_numba)(n_qubits, n_blocks) for n_qubits in QUBITS}
            for n_qubits, found in measure_in_turn(calls).items():
                yield {
                    "n_qubits": n_qubits,
                    "n_blocks": n_blocks,
                    "threads": threads,
                    **found,
                }


def memory_of(n_qubits: int, n_blocks: int) -> int | None:
    """Bytes by which one value + gradient raises the memory of a new process; None off Linux."""
    if not Path("/proc/self/status").exists():
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_here, (n_qubits, n_blocks))


def _memory_here(n_qubits: int, n_blocks: int) -> int:
    def read(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    qtlite(fused_numba)(5, 2)()  # loads the compiled code
    call = qtlite(fused_numba)(n_qubits, n_blocks)
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # reading the block has left memory to use again
        ctypes.CDLL(None).malloc_trim(0)
    before = read("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    call()
    return read("VmHWM") - before


# --------------------------------------------------------------------- mapping nets, training steps


def mapping_nets(keep: bool) -> Iterator[dict[str, Any]]:
    """Value and gradient of the mapping nets' weights and probability column: plain, and ours.

    Beside them the least time for the products alone: one forwards, and backwards one for the
    weights' gradient and one for the inputs', of whose first layer the column is enough.

    Args:
        keep: freed memory for the next step, from now on, as our training does. PyTorch by itself
            gives back blocks of the size of the plain net's tables; so it must be asked first,
            before other measurements have left memory to use again.
    """
    if keep:
        keep_freed_memory()
    works = flop_calls()
    for dataset in ("mnist", "cifar10"):
        model = build_model(recipe_config("qtlite", dataset, n_blocks=1))
        mapping, n_weights = model.mapping, model.n_weights
        net = mapping.layers
        bits = mapping_inputs(torch.zeros(n_weights), model.n_qubits)[:, :-1]
        sizes = [layer.weight.numel() for layer in net if isinstance(layer, torch.nn.Linear)]
        n_flops = 2 * n_weights * (3 * sum(sizes) - sizes[0] + len(net[0].weight))
        column, sensitivity = torch.randn(n_weights, requires_grad=True), torch.randn(n_weights)

        def plain(net=net, bits=bits, column=column, sensitivity=sensitivity):
            outputs = net(torch.cat([bits, column[:, None]], dim=1)).squeeze(1)
            (outputs @ sensitivity).backward()

        def ours(mapping=mapping, column=column, sensitivity=sensitivity):
            (acceleration.mapping(mapping, column) @ sensitivity).backward()

        calls = {"plain": plain, "ours": ours} | {name: call for name, (call, _) in works.items()}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            times = measure_in_turn(calls)
            peaks = rates(works, times)
            yield {
                "dataset": dataset,
                "n_weights": n_weights,
                "threads": threads,
                "kept": keep,
                "flops_s": n_flops / max(peaks["chains"] * threads, peaks["product"]),
                "plain": times["plain"],
                "ours": times["ours"],
            }


def optimiser_step(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], None]:
    """One step as in training, which looks at the loss: forward, backward, Adam."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.item()
        loss.backward()
        optimiser.step()

    return step


def training_steps() -> Iterator[dict[str, Any]]:
    """Whole optimiser steps on random images: the plain CNN and Quantum-Train of the same CNN."""
    keep_freed_memory()
    for dataset, shape, batch, depths, all_threads in (
        ("mnist", (1, 28, 28), 128, (16, 121), (1, 2)),
        ("cifar10", (3, 32, 32), 1000, (19, 323), (2,)),
    ):
        images = torch.rand(batch, *shape) * 2 - 1
        images = images.to(memory_format=torch.channels_last)  # as in training
        labels = torch.randint(10, (batch,))
        for threads in all_threads:
            torch.set_num_threads(threads)
            steps = {}
            for n_blocks in (None, *depths):
                model = "classical" if n_blocks is None else "qt"
                config = recipe_config("qtlite", dataset, model=model, n_blocks=n_blocks or 1)
                name = "CNN" if n_blocks is None else f"QT-{n_blocks}"
                steps[name] = optimiser_step(build_model(config), images, labels)
            times = measure_in_turn(steps)
            for name, found in times.items():
                yield {
                    "dataset": dataset,
                    "batch": batch,
                    "threads": threads,
                    "model": name,
                    "times_the_cnn": quotient(found, times["CNN"]),
                    **found,
                }


# -------------------------------------------------------------------------------------- the program


def sweeps(engines: list[Engine]) -> dict[str, list[dict[str, Any]]]:
    """Time against qubits (4 blocks) and against blocks (13 qubits)."""
    by_qubits, by_blocks = [], []
    for engine in engines:
        for n_qubits in range(4, 23):
            if 4 << n_qubits > engine.largest:
                break
            row = measure_engine(engine, n_qubits, 4)
            by_qubits.append(row)
            if row["first_s"] > SLOW:
                break
        for n_blocks in (1, 4, 16, 64, 121, 323):
            if n_blocks << 13 > engine.largest:
                break
            by_blocks.append(measure_engine(engine, 13, n_blocks))
    return {"by_qubits": by_qubits, "by_blocks": by_blocks}


def _command(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run(quick: bool) -> dict[str, Any]:
    """Measure everything; the dictionary that becomes the JSON."""
    folder = Path(__file__).parent
    engines, left_out = agreeing(ENGINES)
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    nets = list(mapping_nets(keep=False))
    cases = []
    for n_qubits, n_blocks in CASES:
        for engine in engines:
            row = measure_engine(engine, n_qubits, n_blocks)
            cases.append(row)
            print(
                f"{n_qubits} x {n_blocks:3}  {row['median_s'] * 1e3:12.2f} ms  "
                f"{engine.name} ({row['threads']})",
                flush=True,
            )
    results = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _command("git", "-C", str(folder), "rev-parse", "HEAD"),
        "uncommitted": bool(
            _command("git", "-C", str(folder), "status", "--porcelain", "-uno", "--", "../qtlite")
        ),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load_before": load_before,
        "python": platform.python_version(),
        "versions": package_versions(PACKAGES),
        "left_out": left_out,
        "cases": cases,
        "growth": list(growth()),
        "floor": list(forward_and_floor()),
        "memory_bytes_19_323": memory_of(19, 323),
        "mapping_nets": nets + list(mapping_nets(keep=True)),
        "training_steps": list(training_steps()),
    }
    return results | (sweeps(engines) if not quick else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the plots' sweeps")
    parser.add_argument("--report", action="store_true", help="write the report anew, no measuring")
    options = parser.parse_args()
    if not options.report:
        results = run(options.quick)
        write_json(RESULTS, results)
    results = json.loads(RESULTS.read_text())
    gpu = RESULTS.with_name("gpu.json")  # of another machine
    found = json.loads(gpu.read_text()) if gpu.exists() else None
    write_readme(results, found, RESULTS.with_name("README.md"))
    if "by_qubits" in results:
        write_plots(results, RESULTS.parent)


if __name__ == "__main__":
    main()
