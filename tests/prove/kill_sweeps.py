"""Kill sweeps and their workers (SIGKILL) at random moments, and count what is lost or left behind.

    python tests/prove/kill_sweeps.py                         # 50 moments with each kind of worker
    python tests/prove/kill_sweeps.py --to book/measurements  # and record the result

A sweep trains four tiny runs with two workers. A moment is that of a random change among its files,
when it is most likely to be writing. If a worker is killed, the sweep has to go on by itself; if
the sweep is killed, the same command is given again. In the end the runs must be, epoch by epoch
and weight by weight, those that were never interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import psutil
import torch
from safetensors.torch import load_file

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.records.measurements import take_measurement, write_measurement
from qtlite.experiments.records.records import read_records, record_id
from qtlite.experiments.train.checkpoint import CHECKPOINT
from qtlite.experiments.train.loop import TrainedRun, train
from qtlite.experiments.train.runs import NETWORK, check_network

CONFIGS = [TrainConfig(n_train=256, epochs=40, n_blocks=2, seed=seed) for seed in range(4)]
MAX_IN_A_ROW = 3  # workers of one sweep: a run that loses four of them has failed
MAX_SECONDS = 300  # for one sweep


def uninterrupted() -> dict[str, TrainedRun]:
    """Train the four runs without files, by id, on one thread as workers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        digits = load_dataset("digits")
        return {record_id(c): train(c, digits, progress=False) for c in CONFIGS}
    finally:
        torch.set_num_threads(before)


def kill_sweep(folder: Path, n_kills: int, seed: int, scheduler: str | None = None) -> dict:
    """Run a sweep to its end in spite of up to ``n_kills`` kills; return how many there were.

    Raises:
        RuntimeError: if the sweep fails, or does not end.
    """
    random, counts, in_a_row = Random(seed), {"worker": 0, "sweep": 0}, 0
    sweep = _start(folder, scheduler)
    try:
        while sum(counts.values()) < n_kills and _reached(random, folder, sweep):
            workers = _workers(sweep)
            if workers and in_a_row < MAX_IN_A_ROW and random.random() < 0.7:
                random.choice(workers).kill()
                counts["worker"] += 1
                in_a_row += 1
            else:
                sweep.kill()
                sweep.wait()
                counts["sweep"] += 1
                in_a_row = 0
                sweep = _start(folder, scheduler)
        if sweep.wait(MAX_SECONDS) != 0:
            raise RuntimeError(f"the sweep must end, got: {(folder / 'errors').read_text()}")
    finally:
        sweep.kill()
        sweep.wait()
    return counts


def defects(folder: Path, expected: dict[str, TrainedRun]) -> list[str]:
    """What is lost, doubled, half-written, different from the uninterrupted runs, or left over."""
    found = []
    records = {record["id"]: record for record in read_records(folder / "records")}
    if records.keys() != expected.keys():
        found.append(f"records of {sorted(records.keys() ^ expected.keys())}")
    for name, run in expected.items():
        place = folder / "runs" / name
        histories = [
            [{**epoch, "seconds": 0} for epoch in record["history"]]
            for record in (run.record, records.get(name, {"history": []}))
        ]
        if histories[0] != histories[1]:
            found.append(f"history of {name}")
        weights = load_file(check_network(place, name))
        if not all(torch.equal(weights[k], v) for k, v in run.classical.state_dict().items()):
            found.append(f"weights of {name}")
        if torch.load(place / CHECKPOINT, weights_only=True)["history"] != records[name]["history"]:
            found.append(f"checkpoint of {name}")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wanted = {f"runs/{name}/{file}" for name in expected for file in (CHECKPOINT, NETWORK)}
    wanted |= {"runs.json", "errors"} | {f"records/{name}.json" for name in expected}
    found += [f"file {name}" for name in sorted(files ^ wanted)]
    return found


def _start(folder: Path, scheduler: str | None) -> subprocess.Popen:
    listed = folder / "runs.json"
    listed.write_text(json.dumps([config.to_dict() for config in CONFIGS]))
    command = [sys.executable, "-m", "qtlite.experiments.cli", "sweep", str(listed)]
    command += ["--runs", str(folder / "runs"), "--records", str(folder / "records")]
    command += ["--processes", "2", *(["--scheduler", scheduler] if scheduler else [])]
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)


def _workers(sweep: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train; Python also starts some that keep accounts of its resources."""
    workers = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        try:
            if any("spawn_main" in part for part in process.cmdline()):
                workers.append(process)
        except psutil.Error:  # it has just ended
            continue
    return workers


def _reached(random: Random, folder: Path, sweep: subprocess.Popen) -> bool:
    """Wait for a random change of the files; False if the sweep ends before."""
    before, n_changes = None, random.randrange(60)
    end = time.monotonic() + MAX_SECONDS
    while n_changes > 0 and sweep.poll() is None and time.monotonic() < end:
        now = {str(path) for path in folder.rglob("*")}
        for path in folder.rglob(CHECKPOINT):
            try:
                now.add(f"{path} {path.stat().st_mtime_ns}")
            except FileNotFoundError:
                continue
        n_changes -= now != before
        before = now
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.02))
    return sweep.poll() is None


def measure(n_kills: int, kinds: list[str], seed: int) -> dict:
    """Kill at ``n_kills`` moments with each kind of worker, and return all counts and defects."""
    expected, results = uninterrupted(), {}
    for kind in kinds:
        counts, found, n_sweeps = {"worker": 0, "sweep": 0}, [], 0
        while (n_left := n_kills - sum(counts.values())) > 0:
            with tempfile.TemporaryDirectory() as folder:
                scheduler = None if kind == "processes" else "local"
                new = kill_sweep(Path(folder), min(5, n_left), seed + n_sweeps, scheduler)
                counts = {victim: counts[victim] + new[victim] for victim in counts}
                found += defects(Path(folder), expected)
            n_sweeps += 1
            print(f"{kind}: {n_sweeps} sweeps, killed: {counts}, defects: {found}", flush=True)
        results[kind] = {"sweeps": n_sweeps, "killed": counts, "defects": found}
    return results


def main() -> int:
    """Run from the command line; the exit status is 1 if there were defects."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="with each kind (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=["processes", "dask"])
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="record the result there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave no sweep behind
    config = {"n_kills": options.kills, "kinds": options.kinds, "seed": options.seed}
    found = take_measurement("kills", measure, config)
    if options.to is not None:
        print(write_measurement(found, options.to))
    return int(any(result["defects"] for result in found["results"].values()))


if __name__ == "__main__":
    sys.exit(main())
