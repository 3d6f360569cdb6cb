"""Every chapter alone, on one core: its time and its memory, against what the book promises.

    python tests/prove/chapters.py              # all of them, some ten minutes
    python tests/prove/chapters.py mnist shots  # some

A chapter's cells run in a kernel of their own, as in JupyterLab. The time is that of the processor,
so that a busy machine does not matter; waiting counts only for a chapter that waits.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

BOOK = Path(__file__).parents[2] / "book"
SECONDS, GIGABYTES = 120, 1.5


def execute(chapter: str) -> None:
    """Run a chapter's cells in this process's child, and print what that took as JSON."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(BOOK / f"{chapter}.md")
    start = time.perf_counter()
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(BOOK)}}).execute()
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    gigabytes = used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    print(json.dumps([used.ru_utime + used.ru_stime, wall, gigabytes]))


def main(chapters: list[str]) -> int:
    contents = (BOOK.parent / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"(?:root|file): book/(\w+)$", contents, re.MULTILINE)
    cells = [c for c in listed if "{code-cell}" in (BOOK / f"{c}.md").read_text(encoding="utf-8")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "QTLITE_OFFLINE": "1"}
    over = []
    for chapter in chapters or cells:
        ran = subprocess.run(
            [sys.executable, __file__, "--one", chapter],
            env=environment,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            print(ran.stderr[-2000:])
            over.append(chapter)
            continue
        seconds, wall, gigabytes = json.loads(ran.stdout.splitlines()[-1])
        print(f"{chapter:16}{seconds:5.0f} s ({wall:.0f} s wall) {gigabytes:5.2f} GB", flush=True)
        if seconds > SECONDS or gigabytes > GIGABYTES:
            over.append(chapter)
    print(f"over {SECONDS} s or {GIGABYTES} GB, or failed: {', '.join(over) or 'none'}")
    return bool(over)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        execute(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
