"""Sphinx extension: take Thebe's scripts off every page.

Jupyter Book always loads sphinx-thebe, which writes its settings into each page twice (the second
``const`` is an error) and names a script on a third party's server. The book does not use Thebe.
"""


def setup(app):
    app.connect("html-page-context", _drop_scripts, priority=900)  # after those that add scripts
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _drop_scripts(app, pagename, templatename, context, doctree):
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]
