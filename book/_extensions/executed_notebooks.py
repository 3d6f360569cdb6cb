"""Sphinx extension: offer each chapter's executed notebook in the page's download menu.

The theme does so only where launch buttons are set up, which needs a repository's address. MyST-NB
writes the notebook, but without outputs if they come from its cache of executed chapters, as in
every build but the first: they are put back from there.
"""

from contextlib import suppress
from pathlib import Path

import nbformat
from jupyter_cache import get_cache


def setup(app):
    app.connect("html-page-context", _offer, priority=400)  # before the theme's buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _offer(app, pagename, templatename, context, doctree):
    written = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or not written.exists():
        return
    notebook = nbformat.read(written, as_version=4)
    with suppress(KeyError):  # not in the cache: it failed, or no cell is to be executed
        cache = get_cache(app.env.mystnb_config.execution_cache_path)
        _, notebook = cache.merge_match_into_notebook(notebook)
    offered = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    offered.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, offered)
    context["ipynb_source"] = f"{pagename}.ipynb"
