"""Sphinx extension: offer each chapter's executed notebook in the page's download menu.

The theme does so only where launch buttons are set up, which needs a repository's address.
"""

from pathlib import Path
from shutil import copyfile


def setup(app):
    app.connect("html-page-context", _offer, priority=400)  # before the theme's buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _offer(app, pagename, templatename, context, doctree):
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or not executed.exists():
        return
    offered = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    offered.parent.mkdir(parents=True, exist_ok=True)
    copyfile(executed, offered)
    context["ipynb_source"] = f"{pagename}.ipynb"
