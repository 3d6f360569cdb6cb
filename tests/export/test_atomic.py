import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from qtlite.export.atomic import atomic_write

# RLIMIT_FSIZE, without the signal that it sends, makes writing fail as a full disk does
FULL = """
import resource, signal
from pathlib import Path
from qtlite.export.atomic import atomic_write

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(Path("big")) as unfinished:
        unfinished.write_bytes(bytes(5000))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_full_disk_is_named_and_leaves_the_older_file(tmp_path):
    (tmp_path / "big").write_text("older")
    command = [sys.executable, "-c", FULL]
    printed = subprocess.check_output(command, cwd=tmp_path, text=True)
    assert printed.strip().endswith(": 'big'")
    assert [path.name for path in tmp_path.iterdir()] == ["big"]
    assert (tmp_path / "big").read_text() == "older"


def test_content_reaches_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, synchronised, fsync = tmp_path / "note.txt", [], os.fsync

    def spy(descriptor):
        synchronised.append((os.fstat(descriptor).st_size, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    with atomic_write(path) as unfinished:
        unfinished.write_text("done")
    assert synchronised[0] == (4, False)
    assert path.read_text() == "done"


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by its number")
def test_leftovers_of_dead_processes_are_removed_and_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    node, path = platform.node(), tmp_path / "a.json"
    names = {
        f".a.json.{node}.{dead.pid}.unfinished": False,
        f".a.json.{node}.{os.getppid()}.unfinished": True,  # alive
        f".a.json.{node}x.{dead.pid}.unfinished": True,  # of another machine
        f".b.json.{node}.{dead.pid}.unfinished": True,  # of another file
    }
    for name in names:
        (tmp_path / name).touch()
    with atomic_write(path) as unfinished:
        unfinished.write_text("{}")
    left = {p.name for p in Path(tmp_path).iterdir()}
    assert left == {name for name, stays in names.items() if stays} | {"a.json"}


def test_what_fails_leaves_nothing_and_tells_its_own_error(tmp_path):
    def write_half():
        with atomic_write(tmp_path / "a") as unfinished:
            unfinished.write_text("half")
            raise OSError("mine")

    refused("^mine$", write_half, error=OSError)
    assert list(tmp_path.iterdir()) == []
