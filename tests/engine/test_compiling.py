"""The store of compiled code: whatever is wrong with it, the results are those of an empty one."""

import os
import subprocess
import sys

import pytest

MODULE = """
from qtlite.engine.compiled.compiling import compiled

@compiled
def double(x):
    return 2 * x

print(double(21), double.stats.cache_hits)
"""


def run(folder, cache):
    (folder / "module.py").write_text(MODULE)
    done = subprocess.run(
        [sys.executable, "-c", "import module"],
        cwd=folder,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("content", [b"", b"\x80\x05garbage", b"\0" * 500])
def test_a_damaged_store_counts_as_empty(content, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    assert run(tmp_path, cache) == (["42", "Counter()"], "")
    stored = [path for path in cache.rglob("*") if path.is_file()]
    assert {path.suffix for path in stored} == {".nbi", ".nbc"}
    assert run(tmp_path, cache)[0][0] == "42"
    for path in stored:
        path.write_bytes(content)
    assert run(tmp_path, cache) == (["42", "Counter()"], "")


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    found, errors = run(tmp_path, tmp_path / "cache")
    assert found[0] == "42"
    assert errors == ""
