"""Cells tagged ``claim`` hold sentences and assertions: records that contradict one fail here.

The claim cells of a chapter are executed in their order, in one namespace, without the others.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

from qtlite.experiments import records

ROOT = Path(__file__).resolve().parents[2]
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TAGGED = re.compile(r"^:?tags: \[[^]]*\bclaim\b[^]]*\]$", re.MULTILINE)
HEAD = re.compile(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", re.DOTALL | re.MULTILINE)


def claim_cells(chapter):
    cells = CELL.findall((ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8"))
    return [HEAD.sub("", cell) for cell in cells if TAGGED.search(cell)]


WITH_CLAIMS = sorted(p.stem for p in (ROOT / "book").glob("*.md") if claim_cells(p.stem))
assert "findings" in WITH_CLAIMS


@pytest.fixture(scope="module")
def runs():
    return records.read_runs(ROOT / "book/records")


def execute(chapter):
    names = {}
    for cell in claim_cells(chapter):
        exec(compile(cell, chapter, "exec"), names)


@pytest.mark.parametrize("chapter", WITH_CLAIMS)
def test_records_bear_out_the_sentences(chapter, monkeypatch, capsys, runs):
    monkeypatch.chdir(ROOT / "book")
    monkeypatch.setattr(records, "read_runs", lambda folder: runs)
    execute(chapter)
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "chapter", [c for c in WITH_CLAIMS if "read_runs" in "".join(claim_cells(c))]
)
def test_other_records_would_contradict_them(chapter, monkeypatch, capsys, runs):
    """The sentences have teeth: with the runs' accuracies turned around some assertion fails."""
    swapped = runs.assign(test_accuracy=1 - runs.test_accuracy)
    assert isinstance(swapped, pd.DataFrame)
    monkeypatch.chdir(ROOT / "book")
    monkeypatch.setattr(records, "read_runs", lambda folder: swapped)
    with pytest.raises(AssertionError):
        execute(chapter)
