"""Sphinx extension: a link to a term of the glossary carries the definition, shown on hover.

``{term}`` makes the link; qtlite.css shows its ``data-definition`` on hover and on keyboard focus.
"""

import re
from html import escape

from sphinx import addnodes

GLOSSARY = "book/glossary"
LINK = re.compile(r'(<a class="reference internal" href="(?:glossary\.html)?#(term-[^"]+)")')


def setup(app):
    app.connect("html-page-context", _add_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def definitions(doctree):
    """Each term's id and the text of its definition."""
    found = {}
    for glossary in doctree.findall(addnodes.glossary):
        for item in glossary[0]:
            text = " ".join(item[-1].astext().split())
            found |= {name: text for term in item[:-1] for name in term["ids"]}
    return found


def _add_definitions(app, pagename, templatename, context, doctree):
    if "body" not in context or GLOSSARY not in app.env.found_docs or pagename == GLOSSARY:
        return
    if not LINK.search(context["body"]):
        return
    known = definitions(app.env.get_doctree(GLOSSARY))

    def with_definition(match):
        text = known.get(match[2])
        return f'{match[1]} data-definition="{escape(text)}"' if text else match[1]

    context["body"] = LINK.sub(with_definition, context["body"])
