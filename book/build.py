"""Build the book into _build/html: ``python book/build.py``, which is what ``make book`` calls.

Jupyter Book's own incremental build trusts too much, in two ways mended here:

- its cache of executed chapters looks at their cells alone; here a change in anything else that a
  cell can see (the package, the pinned versions, the records, the data) executes them all anew;
- a chapter that failed or warned is not looked at again until it changes, so a second build
  passes; here pages are kept only from a build that was clean, and only while nothing changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from _extensions.repository import repository_url

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build"
JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")
OPTIONS = ["-W", "-n", "--keep-going"]


def seen_by_cells() -> list[Path]:
    """What a chapter's cells can read besides themselves."""
    of_pages = ("book/*.md", "book/api/*", "book/*.py", "book/_static/**/*", "book/_extensions/*")
    not_read = {path for pattern in of_pages for path in ROOT.glob(pattern)}
    beside_chapters = {path for path in ROOT.glob("book/**/*") if path.suffix != ".bib"} - not_read
    read = [ROOT / "requirements.lock", ROOT / "book/_static/draw-3.png"]
    return [*ROOT.glob("qtlite/**/*.py"), *read, *beside_chapters]


def data_present() -> str:
    """Which datasets the cells will find: they take real images where these are."""
    folder = Path(os.environ.get("QTLITE_DATA") or "nowhere")
    return " ".join(sorted(path.name for path in folder.glob("*")))


def seen_by_pages() -> list[Path]:
    """What the pages are made of besides executed cells; any file of the root can be included."""
    return [*ROOT.glob("book/**/*"), *ROOT.glob("*.*"), ROOT / "requirements.lock"]


def digest(paths: Iterable[Path], *others: str) -> str:
    """Hash the names and contents of files, and other strings."""
    total = hashlib.sha256("\0".join(others).encode())
    for path in sorted(set(paths)):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def main() -> int:
    """Build, and return the exit status: 0 only if nothing failed and nothing warned."""
    cells = digest(seen_by_cells(), data_present(), sys.version)
    pages = digest(seen_by_pages(), cells, repository_url())
    cells_marker, pages_marker = BUILT / "cells.sha256", BUILT / "clean.sha256"

    if not cells_marker.exists() or cells_marker.read_text() != cells:
        shutil.rmtree(BUILT / ".jupyter_cache", ignore_errors=True)
    if not pages_marker.exists() or pages_marker.read_text() != pages:
        for folder in (".doctrees", "html"):  # html as well: pages that are gone must go
            shutil.rmtree(BUILT / folder, ignore_errors=True)
    BUILT.mkdir(exist_ok=True)
    pages_marker.unlink(missing_ok=True)
    cells_marker.write_text(cells)

    # no kernel stands behind a page: figures, no controls (qtlite/experiments/report/widgets.py);
    # no build waits for a host: pages about missing data show digits in their place
    environment = {**os.environ, "QTLITE_STATIC": "1", "QTLITE_OFFLINE": "1"}
    status = subprocess.run(
        [JUPYTER_BOOK, "build", ".", *OPTIONS], cwd=ROOT, env=environment
    ).returncode
    if status == 0:
        pages_marker.write_text(pages)
    return status


if __name__ == "__main__":
    sys.exit(main())
