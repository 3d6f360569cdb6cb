"""The store of compiled code: whatever is wrong with it, the results are those of an empty one."""

from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location

import numba
import pytest

from qtlite.engine.compiled import compiling
from qtlite.engine.compiled.compiling import compiled

MODULE = """
from qtlite.engine.compiled.compiling import compiled

@compiled
def double(x):
    return 2 * x
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(MODULE)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(folder):
    """The result of a function of a module, and what came out of the store."""
    spec = spec_from_file_location("module", folder / "module.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double(21), module.double.stats.cache_hits


def test_a_damaged_store_counts_as_empty(tmp_path, cache):
    assert run(tmp_path) == (42, Counter())
    found, hits = run(tmp_path)
    assert (found, hits.total()) == (42, 1)
    stored = [path for path in cache.rglob("*") if path.is_file()]
    assert {path.suffix for path in stored} == {".nbi", ".nbc"}
    for content in (b"", b"\x80\x05garbage", b"\0" * 500):
        for path in stored:
            path.write_bytes(content)
        assert run(tmp_path) == (42, Counter())


def test_a_store_that_cannot_be_written(tmp_path, cache):
    cache.write_text("a file where a folder should be")
    assert run(tmp_path)[0] == 42


def test_loops_compile_where_no_folder_can_be_written(monkeypatch):
    njit = numba.njit

    def refuse_to_store(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse_to_store)
    assert compiled(lambda x: 2 * x)(21) == 42


def _one():
    return 1


def test_stored_code_depends_on_every_module_that_it_is_made_from(monkeypatch):
    def stamp():
        return compiled(_one)._cache._cache_file._source_stamp

    before = stamp()
    assert stamp() == before
    monkeypatch.setattr(compiling, "_sources", lambda: "another vectors.py")
    assert stamp() != before
