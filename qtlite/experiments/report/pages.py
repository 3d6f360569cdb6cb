"""What a chapter shows besides figures: computed sentences, tables, and how the page ran."""

import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import metadata

import torch

STATIC_VARIABLE = "QTLITE_STATIC"  # set while the book is built: no kernel stands behind a page
SHOWN = ("qtlite", "torch", "tensorcircuit-ng", "numpy", "matplotlib")

NO_BREAK, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
_NUMBER = re.compile(r"[-+−]?\d[\d,.]*(e[-+]?\d+)?( ± [\d.]+)?( \([^)]*\))?†?|–?")
_UNBROKEN = re.compile(r" (?=±|seed)|(?<=±) |(?<=\d) (?=%|\(\d+\))")

_start = time.perf_counter()


def is_static() -> bool:
    """Return whether this page belongs to the built book."""
    return bool(os.environ.get(STATIC_VARIABLE))


def say(markdown: str) -> None:
    """Show Markdown in the page; the numbers in its sentences are computed, so they stay right.

    A number stays on one line with its error, its seeds and its percent sign. Outside a notebook
    the text is printed.

    Example:
        >>> say(f"A block has **{6 + 7}** angles.")
        A block has **13** angles.
    """
    markdown = _UNBROKEN.sub(NO_BREAK, markdown)
    try:
        get_ipython()  # there in every notebook
    except NameError:
        print(markdown)
        return
    from IPython.display import Markdown, display

    display(Markdown(markdown))


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], name: str = "", caption: str = ""
) -> None:
    """Show a table; columns that hold only numbers are aligned right.

    Args:
        head: names of the columns.
        rows: cells, one row a sequence.
        name, caption: see ``say_table``; a table in the book has both.

    Example:
        >>> show_table(["recipe", "loss / nat"], [["literal", "2.303"]])
        | recipe | loss / nat |
        | :-- | --: |
        | literal | 2.303 |
    """
    text = table_text(head, rows)
    if caption:
        say_table(text, name, caption)
    else:
        say(text)


def say_table(markdown: str, name: str, caption: str) -> None:
    """Show a Markdown table with a caption, which the built book numbers.

    Args:
        markdown: the table's lines; what follows after a blank line is shown below it.
        name: of the table for references, such as "table-loss".
        caption: one or two sentences in Markdown, on one line.

    Example:
        >>> say_table(table_text(["recipe", "loss / nat"], []), "table-loss", "Losses.")
        *Losses.*
        <BLANKLINE>
        | recipe | loss / nat |
        | :-- | :-- |
    """
    lines, _, below = markdown.strip().partition("\n\n")
    if is_static():
        say(f"~~~~{{table}} {caption}\n:name: {name}\n\n{lines}\n~~~~\n\n{below}")
    else:
        say(f"*{caption}*\n\n{lines}\n\n{below}".rstrip())


def table_text(
    head: Sequence[str], rows: Iterable[Sequence[object]], n_left: int | None = None
) -> str:
    """Return a table as Markdown.

    Args:
        head: names of the columns.
        rows: cells, one row a sequence.
        n_left: the first columns, not aligned; the others are aligned right. If left out, columns
            of numbers are aligned right and the others left.
    """
    rows = [list(map(str, row)) for row in rows]
    if n_left is None:
        columns = zip(*rows, strict=True) if rows else [()] * len(head)
        alignment = ["--:" if _are_numbers(cells) else ":--" for cells in columns]
    else:
        alignment = ["---"] * n_left + ["--:"] * (len(head) - n_left)
    rows = [[re.sub(r"^-(?=\d)", MINUS, cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, alignment, *rows))


def folded(title: str, markdown: str) -> None:
    """Show Markdown that is open only when the reader clicks on its title.

    Example:
        >>> folded("more", "text")
        <details><summary>more</summary>
        <BLANKLINE>
        text
        <BLANKLINE>
        </details>
    """
    say(f"<details><summary>{title}</summary>\n\n{markdown}\n\n</details>")


def foot() -> None:
    """Show the time, the memory and the package versions that this page ran with.

    The time starts when this module is imported, so import it in a page's first cell.

    Example:
        >>> foot()  # doctest: +ELLIPSIS
        *This page ran in ...*
    """
    versions = []
    for package in SHOWN:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    seconds, threads = time.perf_counter() - _start, torch.get_num_threads()
    say(
        f"*This page ran in {seconds:.0f} s on {threads} thread{'s' if threads > 1 else ''}"
        f"{_peak_memory()}, with {', '.join(versions)}.*"
    )


def _are_numbers(cells: Sequence[str]) -> bool:
    return any(cells) and all(map(_NUMBER.fullmatch, cells))


def _peak_memory() -> str:
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return f" in {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.1f} GB of memory"
