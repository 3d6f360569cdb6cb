"""Sphinx extension: what screen readers miss in the theme's pages.

The arrows that unfold a part of the sidebar get a name, and the bibliography is no list in which
links stand beside the entries.
"""

NAME = "Show or hide the pages below this one"


def setup(app):
    app.connect("html-page-context", _mend, priority=900)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mend(app, pagename, templatename, context, doctree):
    if "body" in context:
        body = context["body"].replace('role="list" class="citation-list"', 'class="citation-list"')
        context["body"] = body.replace(' role="doc-biblioentry"', "")
    if (generate := context.get("generate_toctree_html")) is None:
        return

    def with_names(*arguments, **options):
        made = generate(*arguments, **options)
        if hasattr(made, "find_all"):
            for arrow in made.find_all("summary"):
                if not arrow.get_text(strip=True):
                    arrow["aria-label"] = NAME
        return made

    context["generate_toctree_html"] = with_names
