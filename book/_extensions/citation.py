"""Sphinx extension: the directive ``citation`` shows CITATION.cff as text and as BibTeX."""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
TYPES = {"software": "software", "article": "article"}


def entries() -> dict[str, dict]:
    """What is to be cited, by BibTeX key: the software, and the paper with its method."""
    software = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    if "date-released" in software:
        software["year"] = str(software["date-released"])[:4]
    return {"qtlite": software, "liu2024quantumtrain": software["preferred-citation"]}


def authors(entry: dict) -> list[str]:
    """Names, given name first."""
    return [
        a["name"] if "name" in a else f"{a['given-names']} {a['family-names']}"
        for a in entry["authors"]
    ]


def plain(entry: dict) -> str:
    """One line for a list of references."""
    version = f" Version {entry['version']}." if "version" in entry else ""
    url = f" {entry['url']}" if "url" in entry else ""
    year = f" ({entry['year']})" if "year" in entry else ""
    return f"{', '.join(authors(entry))}. {entry['title']}{year}.{version}{url}"


def bibtex(key: str, entry: dict) -> str:
    """The entry for a .bib file."""
    names = [f"{{{a['name']}}}" if "name" in a else None for a in entry["authors"]]
    spelled = [
        name or f"{a['family-names']}, {a['given-names']}"
        for name, a in zip(names, entry["authors"], strict=True)
    ]
    fields = {"title": f"{{{entry['title']}}}", "author": " and ".join(spelled)}
    fields |= {name: str(entry[name]) for name in ("year", "version", "url") if name in entry}
    lines = [f"  {name:7} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{TYPES[entry['type']]}{{{key},", *lines, "}"])


class Citation(SphinxDirective):
    """``{citation} KEY``: the entry as text, then as BibTeX."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(CITATION))
        key = self.arguments[0]
        entry = entries()[key]
        code = bibtex(key, entry)
        block = nodes.literal_block(code, code, language="bibtex")
        return [nodes.paragraph("", plain(entry)), block]


def setup(app):
    app.add_directive("citation", Citation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
