"""Sphinx extension: ``% modules: PACKAGE`` in a page becomes the reference of its public modules.

The files are listed when the page is read, so a new module is in the reference by itself.
"""

import pkgutil
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"^% modules: (\S+)$", re.MULTILINE)
WITH_PAGES = ("qtlite", "qtlite.experiments")  # packages whose packages have pages of their own
SECTION = """\
## `{0}`

```{{eval-rst}}
.. automodule:: {0}
   :members:
```
"""


def public_modules(package_name: str) -> list[str]:
    """Names of a package's modules, and of packages inside it that have no page of their own."""
    found = []
    folder = ROOT.joinpath(*package_name.split("."))
    for module in pkgutil.iter_modules([str(folder)]):
        name = f"{package_name}.{module.name}"
        if not module.ispkg and not module.name.startswith("_"):
            found.append(name)
        elif module.ispkg and package_name not in WITH_PAGES:
            found += public_modules(name)
    return sorted(found)


def expanded(text: str) -> str:
    """The page's text with a section for each module."""
    return MARKER.sub(lambda match: "\n".join(map(SECTION.format, public_modules(match[1]))), text)


def setup(app):
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _expand(app, docname, source):
    source[0] = expanded(source[0])
