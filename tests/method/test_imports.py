"""Which package may import which, and how large the method may be: files are read, not run."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "qtlite"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 350  # of a file
MAX_METHOD_CODE, MAX_METHOD_LINES = 500, 1000

# by an importer's package, or else its module; what is not listed is the method
FORBIDDEN = {
    "engine": ("qnn", "quantum_train", "acceleration", "export", "experiments"),
    "export": ("engine", "experiments"),
    "experiments": ("engine",),
    "acceleration": ("export", "experiments"),
    "method": ("engine", "export", "experiments"),
}
# what a package of qtlite.experiments may import lies to its left
ORDER = [
    *["data.catalogue controls ansaetze", "config recipes paper", "data", "bits", "models"],
    *["records", "train", "studies", "inference", "report", "commands", "cli"],
]


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in FILES}


def _imports(path: Path) -> set[str]:
    """The modules of qtlite that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports give the whole name"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name.split(".")[0] == "qtlite"}


def _level(module: str) -> int:
    """The place of a module of qtlite.experiments in ORDER."""
    inside = module.removeprefix("qtlite.experiments.") + "."
    for level, packages in enumerate(ORDER):
        if any(inside.startswith(f"{package}.") for package in packages.split()):
            return level
    raise ValueError(f"{module} must have a place in ORDER")


def _is_forbidden(importer: str, imported: str) -> bool:
    source, target = ([*name.split("."), ""][1] for name in (importer, imported))
    if source == target == "experiments" and "qtlite.experiments" not in (importer, imported):
        return _level(imported) > _level(importer)
    return target in FORBIDDEN.get(source, FORBIDDEN["method"])


def test_imports_go_one_way():
    pairs = [(name, other) for name, path in MODULES.items() for other in _imports(path)]
    assert [pair for pair in pairs if _is_forbidden(*pair)] == []
    assert len(pairs) > 300


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _n_code(path: Path) -> int:
    """Lines of code: no blank lines, comments or docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and ast.get_docstring(node):
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(
        number not in prose and line.strip() != "" and not line.strip().startswith("#")
        for number, line in enumerate(_lines(path), 1)
    )


def test_files_are_short_and_the_method_is_small():
    assert [path for path in FILES if len(_lines(path)) > MAX_LINES] == []
    method = sorted(PACKAGE.glob("*.py"))
    assert sum(map(_n_code, method)) <= MAX_METHOD_CODE
    assert sum(len(_lines(path)) for path in method) <= MAX_METHOD_LINES
