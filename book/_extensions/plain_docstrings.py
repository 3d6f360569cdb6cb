"""Sphinx extension: read docstrings as the plain text they are.

``2**N``, ``|<i|psi>|^2`` and ``names_`` mean what they say; reStructuredText would take them for
markup. Text between double backquotes and examples are left alone. In a property's docstring
napoleon takes what stands before a colon for a type; here it is a sentence.
"""

import re

COLON = "\N{MODIFIER LETTER COLON}"  # stands in for a colon while napoleon reads
MARKUP = re.compile(r"(``.*?``|`[^`]+`)|([*|]|_(?=\W|$))")
ENDING = re.compile(r"(``[^`]+``)(?=\w)")  # ``Name``s


def setup(app):
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", _restore_colons, priority=900)  # after it
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _escape(app, what, name, obj, options, lines):
    in_example = False
    for place, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            line = MARKUP.sub(lambda found: found[1] or f"\\{found[2]}", line)
            lines[place] = ENDING.sub(r"\1\\ ", line)
    if what == "property" and lines:
        lines[0] = lines[0].replace(":", COLON)


def _restore_colons(app, what, name, obj, options, lines):
    lines[:] = [line.replace(COLON, ":") for line in lines]
