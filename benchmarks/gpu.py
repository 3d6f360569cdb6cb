"""Measure on a GPU what ``benchmarks.simulators`` measures on a CPU; write benchmarks/gpu.json.

    python -m benchmarks.gpu               some two minutes, most of them JAX's compilation
    python -m benchmarks.gpu --to FILE     the JSON elsewhere

``python -m benchmarks.simulators --report`` puts its tables into the README. Wall times of whole
calls, the GPU waited for; medians as there.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engines import qtlite, sample, tensorcircuit_jax
from benchmarks.simulators import CASES, optimiser_step
from benchmarks.timing import SPIN_LIMIT, measure
from qtlite.circuit import ry_linear_cnot
from qtlite.engine import circuit as fused
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine import triton_kernels as fused_triton
from qtlite.experiments.models.build import build_model
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import environment, package_versions, write_json

RESULTS = Path(__file__).with_name("gpu.json")
PACKAGES = ("torch", "triton", "numpy", "tensorcircuit-ng", "jax")
DEVICE = "cuda"


def waited_for(call: Callable[[], object]) -> Callable[[], None]:
    """The call, and then the GPU."""

    def timed() -> None:
        call()
        torch.cuda.synchronize()

    return timed


ENGINES = {
    "qtlite, Triton in a CUDA graph": qtlite(fused_triton, DEVICE),
    "qtlite, plain torch": qtlite(fused_torch, DEVICE),
    "TensorCircuit, JAX, jit + scan": tensorcircuit_jax,
}


def circuits() -> Iterator[dict[str, Any]]:
    """Value and gradient, each engine's first held against ours in double precision on the CPU."""
    for n_qubits, n_blocks in CASES:
        prepared = fused.prepare_circuit(ry_linear_cnot, n_qubits, n_qubits)
        angles, weights = (tensor.double() for tensor in sample(n_qubits, n_blocks))
        angles.requires_grad_()
        value = (fused.probabilities(prepared, angles) * weights).sum()
        (gradient,) = torch.autograd.grad(value, angles)
        for name, prepare in ENGINES.items():
            row = {"engine": name, "n_qubits": n_qubits, "n_blocks": n_blocks}
            try:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                call = prepare(n_qubits, n_blocks)
                theirs, slope = call()
                if prepare is not tensorcircuit_jax:  # whose memory is not torch's
                    row["memory_bytes"] = torch.cuda.max_memory_allocated() - before
                error = np.abs(slope - gradient.numpy()).max() / gradient.abs().max().item()
                row |= {"value_error": abs(theirs - value.item()), "gradient_error": float(error)}
                row |= measure(waited_for(call))
            except Exception as reason:  # an engine that is not there, or runs out of memory
                row["left_out"] = f"{type(reason).__name__}: {reason}"[:300]
            print(n_qubits, n_blocks, name, row.get("median_s", row.get("left_out")), flush=True)
            yield row


def growth() -> Iterator[dict[str, Any]]:
    """Time against qubits, 32 blocks."""
    for n_qubits in range(13, 23):
        call = ENGINES["qtlite, Triton in a CUDA graph"](n_qubits, 32)
        yield {"n_qubits": n_qubits, "n_blocks": 32, **measure(waited_for(call))}


def launches() -> dict[str, Any]:
    """A graph of as many kernels as the passes of 19 x 323, there and back, that do nothing."""
    n_kernels = 2 * len(fused_triton._passes(19)) * 323
    nothing = torch.zeros(1, device=DEVICE)
    graph = torch.cuda.CUDAGraph()
    nothing.add_(1)
    with torch.cuda.graph(graph):
        for _ in range(n_kernels):
            nothing.add_(1)
    return {"n_kernels": n_kernels, **measure(waited_for(graph.replay))}


def training_steps() -> Iterator[dict[str, Any]]:
    """Whole optimiser steps on random images; the parts of the deepest circuit's beside them."""
    for dataset, shape, batch, depths in (
        ("mnist", (1, 28, 28), 128, (16, 121)),
        ("cifar10", (3, 32, 32), 1000, (19, 95, 171, 247, 323)),
    ):
        images = torch.rand(batch, *shape, device=DEVICE) * 2 - 1
        images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(10, (batch,), device=DEVICE)
        plain = None
        for n_blocks in (None, *depths):
            model = "classical" if n_blocks is None else "qt"
            config = recipe_config("qtlite", dataset, model=model, n_blocks=n_blocks or 1)
            network = build_model(config).to(DEVICE)
            times = measure(waited_for(optimiser_step(network, images, labels)))
            plain = plain or times["median_s"]
            row = {
                "dataset": dataset,
                "batch": batch,
                "model": "CNN" if n_blocks is None else f"QT-{n_blocks}",
                "times_the_cnn": times["median_s"] / plain,
                **times,
            }
            if n_blocks == depths[-1]:
                row["parts"] = _parts(network)
            print(dataset, row["model"], row["median_s"], flush=True)
            yield row


def _parts(network: torch.nn.Module) -> dict[str, Any]:
    """Forward and backward of circuit, mapping net and normalisation, each alone."""
    column = network.feature(network.qnn())[: network.n_weights].detach().requires_grad_()
    flat = torch.randn(network.n_weights, device=DEVICE, requires_grad=True)

    def circuit() -> None:
        network.feature(network.qnn())[: network.n_weights].sum().backward()

    def mapping() -> None:
        network.mapping(column).sum().backward()

    def normalisation() -> None:
        sum(weight.sum() for weight in network.normalise(flat).values()).backward()

    parts = {"circuit": circuit, "mapping net": mapping, "normalisation": normalisation}
    return {name: measure(waited_for(part)) for name, part in parts.items()}


def run() -> dict[str, Any]:
    """Measure everything; the dictionary that becomes the JSON."""
    setting = environment(DEVICE)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": setting["commit"],
        "gpu": setting["hardware"]["accelerator"],
        "processor": setting["hardware"]["processor"],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": package_versions(PACKAGES),
        "patience_s": SPIN_LIMIT,
        "training_steps": list(training_steps()),
        "launches": launches(),
        "growth": list(growth()),
        "circuits": list(circuits()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("a CUDA device must be there, got none")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX takes all memory else
    write_json(options.to, run())


if __name__ == "__main__":
    main()
