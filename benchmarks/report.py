"""benchmarks/simulators.json as a README with tables, and as plots."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.timing import quotient
from qtlite.experiments.records.records import write_text
from qtlite.experiments.report.pages import table_text

Row = dict[str, Any]


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def _table(header: list[str], rows: list[list[str]]) -> str:
    return table_text(header, rows, n_left=len(header))


def _cases(results: Row) -> str:
    sizes = list(dict.fromkeys((row["n_qubits"], row["n_blocks"]) for row in results["cases"]))
    names = list(dict.fromkeys((row["engine"], row["allowed_threads"]) for row in results["cases"]))
    found = {
        (row["engine"], row["allowed_threads"], row["n_qubits"], row["n_blocks"]): row
        for row in results["cases"]
    }
    lines = []
    for name, threads in names:
        cells = [name, threads]
        for size in sizes:
            row = found[name, threads, *size]
            best = min(
                found[key]["median_s"] for key in found if key[0] == names[0][0] and key[2:] == size
            )
            star = "" if row["n_blocks_measured"] == [row["n_blocks"]] else "*"
            times = f" ({row['median_s'] / best:,.3g}×)" if name != names[0][0] else ""
            cells.append(_time(row["median_s"]) + star + times)
        lines.append(cells)
    return _table(["simulator", "threads", *(f"{n} × {length}" for n, length in sizes)], lines)


def _floor(results: Row) -> str:
    rows = [
        [
            f"{row['n_qubits']} × {row['n_blocks']}",
            _time(row["median_s"]),
            _time(row["flops_s"]),
            _time(row["bytes_s"]),
            f"{row['median_s'] / max(row['flops_s'], row['bytes_s']):.2f}×",
        ]
        for row in results["floor"]
    ]
    return _table(
        ["qubits × blocks", "forward", "flops alone", "bytes alone", "forward / floor"], rows
    )


def _growth(results: Row) -> str:
    qubits = sorted({row["n_qubits"] for row in results["growth"]})
    header = ["blocks", "threads", *map(str, qubits), "mean growth", "largest"]
    found: dict[tuple[int, int], list[Row]] = {}
    for row in results["growth"]:
        found.setdefault((row["n_blocks"], row["threads"]), []).append(row)
    lines = []
    for (n_blocks, threads), rows in found.items():
        largest = max(quotient(after, before) for before, after in pairwise(rows))
        mean = quotient(rows[-1], rows[0]) ** (1 / (len(rows) - 1))
        times = [_time(row["median_s"] / n_blocks) for row in rows]
        lines.append([str(n_blocks), str(threads), *times, f"{mean:.2f}×", f"{largest:.2f}×"])
    return _table(header, lines)


def _mapping_nets(results: Row) -> str:
    rows = [
        [
            row["dataset"],
            f"{row['n_weights']:,}",
            "kept" if row["kept"] else "PyTorch's way",
            str(row["threads"]),
            _time(row["plain"]["median_s"]),
            _time(row["ours"]["median_s"]),
            f"{quotient(row['plain'], row['ours']):.2f}×",
            _time(row["flops_s"]),
        ]
        for row in results["mapping_nets"]
    ]
    head = ["images", "weights", "freed memory", "threads"]
    return _table([*head, "nn.Sequential", "qtlite", "faster", "flops alone"], rows)


def _steps(results: Row) -> str:
    rows = [
        [
            row["dataset"],
            str(row["batch"]),
            str(row["threads"]),
            row["model"],
            _time(row["median_s"]),
            f"{row['times_the_cnn']:.2f}×",
        ]
        for row in results["training_steps"]
    ]
    return _table(["images", "batch", "threads", "model", "one step", "of the CNN's"], rows)


def _gpu_circuits(found: Row) -> str:
    sizes = list(dict.fromkeys((row["n_qubits"], row["n_blocks"]) for row in found["circuits"]))
    names = list(dict.fromkeys(row["engine"] for row in found["circuits"]))
    rows = {(row["engine"], row["n_qubits"], row["n_blocks"]): row for row in found["circuits"]}
    lines = []
    for name in names:
        cells = [name]
        for size in sizes:
            row, best = rows[name, *size], rows[names[0], *size]
            if "left_out" in row:
                cells.append("–")
            elif name == names[0] or "left_out" in best:
                cells.append(_time(row["median_s"]))
            else:
                times = row["median_s"] / best["median_s"]
                cells.append(f"{_time(row['median_s'])} ({times:,.3g}×)")
        errors = [
            rows[name, *size]["gradient_error"]
            for size in sizes
            if "gradient_error" in rows[name, *size]
        ]
        lines.append([*cells, f"{max(errors):.0e}" if errors else "–"])
    head = ["simulator", *(f"{n} × {length}" for n, length in sizes), "gradient's largest error"]
    return _table(head, lines)


def _gpu_steps(found: Row) -> str:
    lines = []
    for row in found["training_steps"]:
        parts = row.get("parts", {})
        cells = [row["dataset"], str(row["batch"]), row["model"], _time(row["median_s"])]
        cells.append(f"{row['times_the_cnn']:.2f}×")
        cells.append(", ".join(f"{name} {_time(part['median_s'])}" for name, part in parts.items()))
        lines.append(cells)
    head = ["images", "batch", "model", "one step", "of the CNN's", "parts, each alone"]
    return _table(head, lines)


def _gpu(found: Row) -> str:
    """The section on ``benchmarks.gpu``'s results."""
    versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items() if v)
    growth = found["growth"]
    header = ["blocks", *(str(row["n_qubits"]) for row in growth)]
    times = [str(growth[0]["n_blocks"]), *(_time(row["median_s"]) for row in growth)]
    launches = found["launches"]
    memory = {
        row["engine"]: row["memory_bytes"]
        for row in found["circuits"]
        if (row["n_qubits"], row["n_blocks"]) == (19, 323) and row.get("memory_bytes")
    }
    takes = ", ".join(f"{size / 1e6:.0f} MB ({name})" for name, size in memory.items())
    return f"""
## On a GPU

`python -m benchmarks.gpu` writes `gpu.json`. {found["date"][:10]}, commit {found["commit"][:10]}, \
{found["gpu"]}, {found["cores"]} cores, Python {found["python"]}, {versions}.

Value and gradient as above, wall time with the GPU waited for; in brackets: multiples of our first
line. Errors are the largest over the four sizes, relative to the largest entry of the gradient in
double precision on the CPU. (JAX runs at its default precision, which on this GPU is less than
single.)

{_gpu_circuits(found)}

Of the GPU's memory, one value and gradient at 19 × 323 takes {takes}. Ours goes \
{launches["n_kernels"]:,} times through the state, a kernel each; a graph of as many that do \
nothing takes {_time(launches["median_s"])}.

Value and gradient against qubits (medians; the JSON has the least times, too): while a state leaves
most of the GPU idle, more of it costs little.

{_table(header, [times])}

Training steps, one model after the other; with cuDNN's default algorithms, where training takes
deterministic ones. Parts are those of the deepest circuits.

{_gpu_steps(found)}
"""


def write_readme(results: Row, gpu: Row | None, path: Path) -> None:
    """Write the README whole, from the JSON files alone."""
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items() if v)
    left_out = "; ".join(f"{name} ({why})" for name, why in results["left_out"].items())
    memory = results["memory_bytes_19_323"]
    commit = results["commit"][:10] + (" with changes" if results["uncommitted"] else "")
    load = "unknown" if results["load_before"] is None else f"{results['load_before']:.1f}"
    text = f"""# Benchmarks

`make bench` (or `python -m benchmarks.simulators`) writes `simulators.json`, and from it this page
and the plots. JAX comes with `pip install -e .[bench]`, TorchQuantum as
`torchquantum.txt` says; peers that are not installed are left out.

{results["date"][:10]}, commit {commit}, \
{results["processor"]}, {results["cores"]} cores (load before: {load}), \
Python {results["python"]}, {versions}. Left out: {left_out or "none"}.

## Value and gradient of a scalar of all probabilities

Ry on every qubit and a linear CNOT chain, qubits × blocks, single precision where nothing else is
said; medians. In brackets: times our faster line. "1 or 2" threads: the faster of both; XLA takes
all cores. An asterisk marks times on the straight line through those of two smaller numbers of
blocks (`n_blocks_measured` in the JSON). Up to 18 qubits qtlite takes one thread whatever is
allowed: where its two lines differ there, the machine was disturbed.

{_cases(results)}

One value and gradient at 19 × 323 raises the process's memory by \
{"?" if memory is None else f"{memory / 1e6:.0f} MB"}.

## How far from the floor

The forward pass alone on one thread, against its flops (2 for each Ry and amplitude) over the
measured peak ({results["floor"][0]["flops_per_s"] / 1e9:.0f} Gflop/s, the faster of multiply-adds
in registers and a product of large matrices) and its bytes over the measured speed of a copy of the
same size; all in turn.

{_floor(results)}

## Time a block against qubits

Value and gradient. The sizes, and the lines of the next two tables, are measured in turn, round
after round: a slow minute of the machine strikes all of them. Growths are of times of the same
round, medians over the rounds, and so are the multiples there. Of few blocks, what a call
costs once still counts; of many, up to 17 qubits all stays in a core's L2 cache.

{_growth(results)}

## Mapping nets

Value and gradient of a mapping net's parameters and of its probability column. "Flops alone": its
products, without tanh and nothing computed twice, at the measured peak of as many cores. For
CIFAR-10 `nn.Sequential` takes hundreds of megabytes, which PyTorch gives back to the system and
asks for again, page by page, in the next step. Our training keeps them
(`qtlite.experiments.train.process`), whatever the mapping net.

{_mapping_nets(results)}

## Training steps

Forward, backward and Adam on random images, the recipe `qtlite`.

{_steps(results)}
"""
    if gpu is not None:
        text += _gpu(gpu)
    if "by_qubits" in results:
        text += """
## Plots

![Time against qubits](by_qubits.svg)

![Time against blocks](by_blocks.svg)
"""
    write_text(path, text)


def write_plots(results: Row, folder: Path) -> None:
    """by_qubits.svg and by_blocks.svg."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    for name, axis, label in (
        ("by_qubits", "n_qubits", "qubits (4 blocks)"),
        ("by_blocks", "n_blocks", "blocks (13 qubits)"),
    ):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        rows = results[name]
        for engine, threads in dict.fromkeys(
            (row["engine"], row["allowed_threads"]) for row in rows
        ):
            line = [
                row for row in rows if (row["engine"], row["allowed_threads"]) == (engine, threads)
            ]
            axes.plot(
                [row[axis] for row in line],
                [row["median_s"] for row in line],
                marker="o",
                markersize=3,
                label=f"{engine} ({threads})",
            )
        axes.set(xlabel=label, ylabel="value + gradient, seconds", yscale="log")
        if axis == "n_blocks":
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), title="(threads)")
        # no date and no random ids: the same numbers give the same file
        with mpl.rc_context({"svg.hashsalt": "qtlite"}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
