"""Sphinx extension: a minus before a number is a true minus sign, wherever a page is not code."""

import re

from docutils import nodes

HYPHEN = re.compile(r"(?<![\w.\-)])-(?=\.?\d)")
CODE = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment)


def with_minus_signs(text: str) -> str:
    """Turn hyphens before numbers into minus signs; ranges and dates keep theirs."""
    return HYPHEN.sub("\N{MINUS SIGN}", text)


def setup(app):
    app.connect("doctree-resolved", _replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _replace(app, doctree, docname):
    if docname.startswith("book/api/"):
        return
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        while parent is not None and not isinstance(parent, CODE):
            parent = parent.parent
        if parent is None and (changed := with_minus_signs(text)) != text:
            text.parent.replace(text, nodes.Text(changed))
