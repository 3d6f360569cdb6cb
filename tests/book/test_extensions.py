"""The book's Sphinx extensions: quick checks, the reference, the address, citations."""

import importlib.util
import re
import subprocess
from pathlib import Path

import nbformat
import yaml
from refusals import refused

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = ROOT / "book/_extensions"


def extension(name):
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_answers_are_computed_by_arithmetic_and_nothing_else():
    quick_check = extension("quick_check")
    for expression, value, shown in (
        ("2**7 - 100", 28, "28"),
        ("16 * 6 * 13 + 249", 1497, "1,497"),
        ("2**ceil(log2(6690)) - 6690", 1502, "1,502"),
        ("-1 / 8", -0.125, "\N{MINUS SIGN}0.125"),
    ):
        assert quick_check.computed(expression) == value
        assert quick_check.shown(value) == shown
    for expression in ("__import__('os')", "open('x')", "(1).real", "x"):
        refused("answer must be arithmetic, got", quick_check.computed, expression)


def test_every_public_module_is_on_one_page_of_the_reference():
    """A module without its place is one that no reader finds."""
    api_modules = extension("api_modules")
    pages = [path.read_text() for path in (ROOT / "book/api").glob("*.md")]
    named = re.findall(r"automodule:: ([\w.]+)", "".join(map(api_modules.expanded, pages)))
    files = [
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "qtlite").rglob("[!_]*.py")
        if "engine" not in path.parts
    ]
    assert sorted(named) == sorted(".".join(file.parts) for file in files)


def test_the_address_comes_from_the_remote(tmp_path):
    repository = extension("repository")
    url = "https://github.com/someone/some-thing"
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert repository.repository_url({}, tmp_path) == ""
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", "none"], check=True)
    for remote, expected in (
        (f"{url}.git", url),
        ("git@github.com:someone/some-thing", url),
        ("/a/folder", ""),
    ):
        subprocess.run(["git", "-C", tmp_path, "remote", "set-url", "origin", remote], check=True)
        assert repository.repository_url({}, tmp_path) == expected
    known = {"GITHUB_REPOSITORY": "another/place"}
    assert repository.repository_url(known, tmp_path) == "https://github.com/another/place"
    assert f"git+{url}" in repository.install_line(url)
    assert repository.install_line("") == 'pip install ".[experiments]"'
    colab = repository.colab_url(url, "book/circuit")
    assert colab.endswith("/github/someone/some-thing/blob/notebooks/book/circuit.ipynb")


def test_a_notebook_for_colab_begins_with_the_installation():
    cells = [nbformat.v4.new_markdown_cell("# A chapter")]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    made = extension("executed_notebooks").for_colab(notebook, "https://github.com/someone/thing")
    assert "git clone --quiet --depth 1 https://github.com/someone/thing" in made.cells[0].source
    assert [cell.source for cell in made.cells[1:]] == ["# A chapter"]
    assert made.metadata == notebook.metadata


def test_citations_say_what_the_citation_file_says():
    citation = extension("citation")
    written = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    software, paper = citation.entries().values()
    for entry, key in ((written, software), (written["preferred-citation"], paper)):
        assert entry["title"] in citation.plain(key)
        assert f"title   = {{{{{entry['title']}}}}}" in citation.bibtex("a", key)
    assert f"Version {written['version']}" in citation.plain(software)
    assert "Liu, Chen-Yu and Kuo, En-Jui" in citation.bibtex("a", paper)


def test_minus_signs():
    for text, shown in (
        ("-0.004 nats", "−0.004 nats"),
        ("from -1 to (-.5)", "from −1 to (−.5)"),
        ("2026-11-22, 14-4, QT-16, 1e-9, x -y", "2026-11-22, 14-4, QT-16, 1e-9, x -y"),
    ):
        assert extension("minus_signs").with_minus_signs(text) == shown


def test_a_notebook_has_a_tables_caption_without_the_directive():
    shown = "~~~~{table} A *caption*.\n:name: table-a\n\n| a |\n| --: |\n| 1 |\n~~~~\n\nA note."
    plain = extension("executed_notebooks").with_plain_tables
    assert plain(shown) == "*A *caption*.*\n\n| a |\n| --: |\n| 1 |\n\nA note."
    assert plain("| a |\n| --- |\n") == "| a |\n| --- |\n"
