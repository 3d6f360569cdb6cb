"""Sphinx extension: offer each chapter's executed notebook in the page's download menu.

The theme does so only where launch buttons are set up, which needs a repository's address. MyST-NB
writes the notebook, but without outputs if they come from its cache of executed chapters, as in
every build but the first: they are put back from there. A directive around a table, which only the
book understands, becomes a line with its caption. Where the address is known, a second copy
in _build/notebooks begins with a cell that installs the package: hosted CI pushes it for Colab.
"""

import re
from contextlib import suppress
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

FIRST_CELL = """\
# Colab: fetch the book and install what it needs (one to two minutes)
!git clone --quiet --depth 1 {url} qtlite-book
%cd qtlite-book/book
%pip install --quiet "..[book]"
"""


DIRECTIVE = re.compile(r"~~~~\{table\} (.*)\n:name: .*\n\n((?:.*\n)*?)~~~~\s*")


def setup(app):
    app.connect("html-page-context", _offer, priority=400)  # before the theme's buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def for_colab(notebook, url):
    """Return the notebook with a first cell that fetches the book and installs the package."""
    cell = nbformat.v4.new_code_cell(FIRST_CELL.format(url=url), id="install")
    return nbformat.v4.new_notebook(cells=[cell, *notebook.cells], metadata=notebook.metadata)


def with_plain_tables(markdown):
    """Return what a cell shows with each table directive turned into caption and table."""
    return DIRECTIVE.sub(r"*\1*\n\n\2\n", markdown)


def _offer(app, pagename, templatename, context, doctree):
    built = Path(app.outdir).parent
    written = built / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or not written.exists():
        return
    notebook = nbformat.read(written, as_version=4)
    with suppress(KeyError):  # not in the cache: it failed, or no cell is to be executed
        cache = get_cache(app.env.mystnb_config.execution_cache_path)
        _, notebook = cache.merge_match_into_notebook(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for name, text in app.config.myst_substitutions.items():
                cell.source = cell.source.replace(f"{{{{ {name} }}}}", text)
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/markdown"):
                output["data"]["text/markdown"] = with_plain_tables("".join(text))
    _write(notebook, written)  # from where the theme's launch buttons copy it
    _write(notebook, Path(app.outdir) / "_sources" / f"{pagename}.ipynb")
    context["ipynb_source"] = f"{pagename}.ipynb"
    if url := app.config.html_theme_options.get("repository_url"):
        _write(for_colab(notebook, url), built / "notebooks" / f"{pagename}.ipynb")


def _write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
