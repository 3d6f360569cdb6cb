"""Sphinx extension: no launch button until the repository's address is known.

The theme fails on launch buttons without an address. So one setting decides: ``repository: url`` in
_config.yml.
"""


def setup(app):
    app.connect("config-inited", _drop_launch_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _drop_launch_buttons(app, config):
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)
