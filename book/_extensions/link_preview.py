"""Sphinx extension: what others show of a link to a page: its title, first sentences, a picture.

The picture's address has to be whole; it is so once ``html: baseurl`` is set in _config.yml.
"""

from html import escape

from docutils import nodes

IMAGE = "_static/social-card.png"  # made by book/social_card.py
LENGTH = 200


def setup(app):
    app.connect("html-page-context", _describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _describe(app, pagename, templatename, context, doctree):
    if doctree is None:
        return
    paragraph = next(iter(doctree.findall(nodes.paragraph)), None)
    text = " ".join(paragraph.astext().split()) if paragraph is not None else ""
    if len(text) > LENGTH:
        text = text[:LENGTH].rpartition(" ")[0] + " …"
    base = app.config.html_baseurl
    image = f"{base.rstrip('/')}/{IMAGE}" if base else context["pathto"](IMAGE, resource=True)
    title = nodes.document.astext(app.env.titles[pagename])
    tags = {
        "og:type": "article",
        "og:site_name": "qtlite",
        "og:title": title,
        "og:description": text,
        "og:image": image,
        "og:image:alt": "The logo of qtlite and its idea in one sentence",
    }
    lines = [f'<meta property="{key}" content="{escape(value)}">' for key, value in tags.items()]
    lines += [
        '<meta name="twitter:card" content="summary_large_image">',
        f'<meta name="description" content="{escape(text)}">',
    ]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(lines)
