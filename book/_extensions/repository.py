"""Sphinx extension: where the repository is, and what follows: buttons, the install line.

The address is ``repository: url`` of _config.yml if that is set, else it comes from
``GITHUB_REPOSITORY``, which GitHub's runners set, else from the git remote ``origin``. While none
of them names a GitHub repository, no page has a button for Binder or Colab, or to edit the page.
Pages write ``{{ install }}`` for the command that installs the package.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REMOTE = re.compile(r"(?:https://|ssh://git@|git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?")
NOTEBOOKS = "notebooks"  # branch of the executed notebooks that Colab opens; hosted CI pushes it


def repository_url(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> str:
    """Return the address of the GitHub repository, or "" if it is not known."""
    if name := environment.get("GITHUB_REPOSITORY"):
        return f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    try:
        asked = subprocess.run(
            ["git", "remote", "get-url", "origin"], cwd=root, capture_output=True, text=True
        )
    except OSError:  # no git
        return ""
    match = REMOTE.fullmatch(asked.stdout.strip())
    return f"https://github.com/{match[1]}" if match else ""


def install_line(url: str) -> str:
    """Return the command that installs the package: from the repository, or in a clone of it."""
    return (
        f'pip install "qtlite[experiments] @ git+{url}"' if url else 'pip install ".[experiments]"'
    )


def colab_url(url: str, page: str) -> str:
    """Return the address that opens a page's executed notebook in Colab."""
    path = url.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{path}/blob/{NOTEBOOKS}/{page}.ipynb"


def setup(app):
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _offer_colab, priority=600)  # after the theme's buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _configure(app, config):
    options = config.html_theme_options
    url = options.get("repository_url") or repository_url()
    config.myst_substitutions = {**config.myst_substitutions, "install": f"`{install_line(url)}`"}
    if url:
        options |= {
            "repository_url": url,
            "use_edit_page_button": True,
            "use_repository_button": True,
        }
    else:  # the theme fails on buttons without an address
        options.pop("launch_buttons", None)


def _offer_colab(app, pagename, templatename, context, doctree):
    url = app.config.html_theme_options.get("repository_url", "")
    if not (url.startswith("https://github.com/") and context.get("ipynb_source")):
        return
    for group in context["header_buttons"]:
        if group["label"] == "launch-buttons":
            button = {
                "type": "link",
                "text": "Colab",
                "tooltip": "Open the executed notebook in Colab",
                "icon": "_static/images/logo_colab.png",
                "url": colab_url(url, pagename),
            }
            group["buttons"].append(button)
