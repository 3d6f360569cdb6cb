import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from dask.distributed import LocalCluster
from prove.kill_sweeps import defects, kill_sweep, uninterrupted
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.records.records import read_records, record_id, write_json
from qtlite.experiments.train.sweep import RunInUse, claim, run_sweep, run_to_files
from qtlite.experiments.train.workers import worker_pool

SHORT_WAIT = {"distributed.comm.timeouts.connect": "1s"}
CONFIG = TrainConfig(n_train=128, epochs=1, n_blocks=2)


@pytest.fixture(autouse=True)
def _environment():
    """Dask sets variables for its workers and leaves them in this process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def cluster():
    """Two worker processes of one thread each; a dead one is started again."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.02)
    return found


def started(code, folder, **options):
    """A program in a process of its own, which works in the folder."""
    script = folder / "sweep.py"
    script.write_text(code)
    return subprocess.Popen([sys.executable, script], cwd=folder, text=True, **options)


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_and_a_cluster_give_the_same_numbers(cluster, tmp_path):
    results = []
    for scheduler in (None, cluster.scheduler_address):
        place = tmp_path / str(scheduler is None)
        run_sweep([CONFIG], place, place / "records", scheduler=scheduler, progress=False)
        (record,) = read_records(place / "records")
        results.append((record["test_loss"], record["train_loss"]))
    assert results[0] == results[1]


def test_a_run_whose_result_was_lost_is_not_run_again(tmp_path):
    """Dask calls a function again if its result is lost: the record is there, and only read."""
    path = tmp_path / "records" / "run.json"
    record, _ = run_to_files(CONFIG, tmp_path, path, progress=False)
    record["wall_seconds"] = 1234.5
    path.write_text(json.dumps(record))
    found, _ = run_to_files(CONFIG, tmp_path, path, progress=False, again=False)
    assert found["wall_seconds"] == 1234.5
    trained, _ = run_to_files(CONFIG, tmp_path, path, progress=False)
    assert trained["wall_seconds"] < 1234.5


def test_kills_at_random_moments_lose_nothing_and_leave_nothing(tmp_path):
    killed = kill_sweep(tmp_path, n_kills=5, seed=4)
    assert sum(killed.values()) == 5
    assert defects(tmp_path, uninterrupted()) == []


def test_a_function_that_kills_its_workers_has_failed_and_others_have_not():
    with worker_pool(2) as workers:
        deadly, harmless = workers.submit(os._exit, 1), workers.submit(max, 3, 4)
        assert harmless.result() == 4
        with pytest.raises(RuntimeError, match="worker processes must live, got 4 that were kill"):
            deadly.result()
        assert workers.submit(max, 5, 6).result() == 6


def test_a_run_of_another_sweep_is_waited_for_and_not_trained(tmp_path):
    ours, theirs = CONFIG, replace(CONFIG, seed=1)
    elsewhere, runs, records = (tmp_path / name for name in ("elsewhere", "runs", "records"))
    record, _ = run_to_files(theirs, elsewhere, tmp_path / "record.json", progress=False)
    in_use = f"which process {os.getpid()} on .* is training"
    with ThreadPoolExecutor() as threads:
        with claim(runs / record_id(theirs)):
            new = records / "x.json"
            refused(in_use, run_to_files, theirs, runs, new, progress=False, error=RunInUse)
            options = {"n_processes": 2, "progress": False}
            sweep = threads.submit(run_sweep, [theirs, ours], runs, records, **options)
            wait_for((records / f"{record_id(ours)}.json").exists)
            write_json(records / f"{record['id']}.json", record)
            assert not sweep.done()
        paths = sweep.result(timeout=180)
    assert {path.stem for path in paths} == {record_id(ours), record_id(theirs)}
    assert list((runs / record_id(theirs)).iterdir()) == []  # no checkpoint, no lock


def test_a_killed_process_gives_its_run_back_and_its_litter_is_removed(tmp_path):
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from qtlite.experiments.train.sweep import claim\n"
        "with claim(Path('run')):\n"
        "    Path('run/.checkpoint.pt.elsewhere.1.unfinished').touch()\n"
        "    print('claimed', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with started(code, tmp_path, stdout=subprocess.PIPE) as owner:
        owner.stdout.readline()
        text = f"run must be free, .*process {owner.pid} on"
        refused(text, claim(tmp_path / "run").__enter__, error=RunInUse)
        owner.kill()
    with claim(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lost_scheduler_is_named(tmp_path):
    code = (
        "import asyncio\n"
        "from distributed import Scheduler\n"
        "async def run():\n"
        "    async with Scheduler(host='127.0.0.1', port=0, dashboard=False) as scheduler:\n"
        "        print(scheduler.address, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(run())\n"
    )
    with started(code, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as scheduler:
        address = scheduler.stdout.readline().strip()
        timer = threading.Timer(3, scheduler.kill)  # it has no workers: the run cannot begin
        timer.start()
        text = f"scheduler must answer until .* '{address}'"
        with dask.config.set(SHORT_WAIT), pytest.raises(RuntimeError, match=text):
            run_sweep([CONFIG], tmp_path, tmp_path, scheduler=address, progress=False)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_processes_end_when_the_sweep_is_killed(tmp_path):
    code = (
        "import os, time\n"
        "from qtlite.experiments.train.workers import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as executor:\n"
        "        print(executor.submit(os.getpid).result(), flush=True)\n"
        "        executor.submit(time.sleep, 600).result()\n"
    )
    with started(code, tmp_path, stdout=subprocess.PIPE) as sweep:
        worker = int(sweep.stdout.readline())
        os.kill(worker, 0)  # is there
        sweep.kill()
    wait_for(lambda: not is_running(worker))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_one_ctrl_c_ends_a_sweep_and_begins_nothing(tmp_path):
    code = (
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from qtlite.experiments.train.workers import worker_pool\n"
        "def work(name):\n"
        "    Path(name).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        # a program that was started in the background ignores it
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    with worker_pool(1) as executor:\n"
        "        jobs = [executor.submit(work, name) for name in 'abc']\n"
        "        jobs[0].result()\n"
    )
    with started(code, tmp_path, stderr=subprocess.PIPE, start_new_session=True) as sweep:
        wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
        worker = int((tmp_path / "a").read_text())
        os.killpg(sweep.pid, signal.SIGINT)  # to all, as a terminal does
        try:
            _, errors = sweep.communicate(timeout=60)
        finally:
            sweep.kill()  # if it has not ended
    assert not is_running(worker)
    assert not (tmp_path / "b").exists()
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1  # the sweep's own


def test_workers_of_several_threads_are_refused():
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with (
        LocalCluster(**options) as cluster,
        pytest.raises(ValueError, match="scheduler must have workers of one thread each, got"),
        worker_pool(scheduler=cluster.scheduler_address),
    ):
        pass


def test_bad_input(monkeypatch):
    silent = "tcp://127.0.0.1:1"
    for n_processes, scheduler, message in (
        (2, silent, "processes must be left out with a scheduler .*, got 2"),
        (None, silent, f"scheduler must answer, got '{silent}'"),
        (None, "nonsense://here", "scheduler must answer, got 'nonsense://here'"),
    ):
        with dask.config.set(SHORT_WAIT):
            refused(message, lambda: worker_pool(n_processes, scheduler).__enter__())  # noqa: B023
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    text = r"scheduler must be left out where Dask is not installed"
    refused(text, lambda: worker_pool(scheduler="local").__enter__())
