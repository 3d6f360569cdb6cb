"""Sphinx extension: the arrows that unfold a part of the sidebar have a name for screen readers."""

NAME = "Show or hide the pages below this one"


def setup(app):
    app.connect("html-page-context", _wrap, priority=900)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _wrap(app, pagename, templatename, context, doctree):
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
