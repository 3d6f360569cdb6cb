"""Sphinx extension: read docstrings as the plain text they are.

``2**N``, ``|<i|psi>|^2`` and ``names_`` mean what they say; reStructuredText would take them for
markup. Text between double backquotes and examples are left alone.
"""

import re

MARKUP = re.compile(r"(``.*?``|`[^`]+`)|([*|]|_(?=\W|$))")


def setup(app):
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _escape(app, what, name, obj, options, lines):
    in_example = False
    for place, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            lines[place] = MARKUP.sub(lambda found: found[1] or f"\\{found[2]}", line)
