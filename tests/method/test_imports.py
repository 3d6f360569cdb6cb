"""Which package may import which, and how large the method may be: files are read, not run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "qtlite"
# what a package of qtlite.experiments may import lies to its left
ORDER = (
    ("data.catalogue", "controls", "ansaetze"),
    ("config", "recipes", "paper"),
    ("data",),
    ("bits",),
    ("models",),
    ("records",),
    ("train",),
    ("studies",),
    ("inference",),
    ("report",),
    ("commands",),
    ("cli",),
)
MAX_LINES = 350  # of a file
MAX_METHOD_CODE, MAX_METHOD_LINES = 500, 1000


def _modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("qtlite", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = _modules()


def _imports(name: str) -> Iterator[tuple[str, int]]:
    """The modules of qtlite that a module imports, wherever in it, each with its line."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:  # from . import ..., from ..data import ...
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*above, *filter(None, [node.module])])
            found = [
                full if (full := f"{origin}.{alias.name}") in MODULES else origin
                for alias in node.names
            ]
        else:
            continue
        for module in found:
            if module.split(".")[0] == "qtlite":
                yield module, node.lineno


def _is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _level(module: str) -> int | None:
    """The place of a module of qtlite.experiments in ORDER; None for the package itself."""
    inside = module.removeprefix("qtlite.experiments").removeprefix(".")
    for level, packages in enumerate(ORDER):
        if _is_in(inside, *packages):
            return level
    return None


def _forbidden(importer: str, imported: str) -> str | None:
    """Why a module may not import another; None if it may."""
    method = not _is_in(importer, "qtlite.engine", "qtlite.export", "qtlite.experiments")
    if method and _is_in(imported, "qtlite.export", "qtlite.experiments"):
        return "the method knows neither export nor experiments"
    if (
        _is_in(imported, "qtlite.engine")
        and importer != "qtlite.acceleration"
        and not _is_in(importer, "qtlite.engine")
    ):
        return "only acceleration.py imports the engine"
    above_engine = (
        "qtlite.qnn",
        "qtlite.quantum_train",
        "qtlite.acceleration",
        "qtlite.export",
        "qtlite.experiments",
    )
    if _is_in(importer, "qtlite.engine") and _is_in(imported, *above_engine):
        return "the engine is below this module"
    if _is_in(importer, "qtlite.export") and _is_in(imported, "qtlite.experiments"):
        return "export knows no experiment"
    if _is_in(importer, "qtlite.experiments") and _is_in(imported, "qtlite.experiments"):
        own, other = _level(importer), _level(imported)
        if own is not None and other is not None and other > own:
            return "imports in experiments go one way only"
    return None


def _report(violations: list[str]) -> None:
    print(*violations, sep="\n")
    assert violations == []


def test_imports_go_one_way():
    _report(
        [
            f"{importer}:{line} imports {imported}: {reason}"
            for importer in MODULES
            for imported, line in sorted(set(_imports(importer)))
            if (reason := _forbidden(importer, imported))
        ]
    )


def test_every_module_of_experiments_has_a_level():
    named = [name for name in MODULES if _is_in(name, "qtlite.experiments")]
    _report([name for name in named if name != "qtlite.experiments" and _level(name) is None])


def test_no_file_is_long():
    counts = {name: _n_lines(path) for name, path in MODULES.items()}
    _report([f"{name}: {n} lines" for name, n in counts.items() if n > MAX_LINES])


def test_the_method_is_small():
    files = sorted(PACKAGE.glob("*.py"))
    code, lines = sum(map(_n_code, files)), sum(map(_n_lines, files))
    print(f"{code} lines of code, {lines} in all")
    assert code <= MAX_METHOD_CODE
    assert lines <= MAX_METHOD_LINES


def _n_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _n_code(path: Path) -> int:
    """Lines of code: no blank lines, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node):
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in prose
        for number, line in enumerate(text.splitlines(), 1)
    )


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("qtlite.mapping", "qtlite.experiments.config"),
        ("qtlite.mapping", "qtlite.engine.mapping"),
        ("qtlite.export.int8", "qtlite.engine.mapping"),
        ("qtlite.engine.mapping", "qtlite.quantum_train"),
        ("qtlite.export.int8", "qtlite.experiments.config"),
        ("qtlite.experiments.config", "qtlite.experiments.data.loading"),
        ("qtlite.experiments.train.sweep", "qtlite.experiments.report.tables"),
    ],
)
def test_a_rule_forbids(importer, imported):
    assert _forbidden(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("qtlite.engine.mapping", "qtlite.mapping"),
        ("qtlite.export.int8", "qtlite.export.onnx_file"),
        ("qtlite.experiments.cli", "qtlite.experiments.train.sweep"),
        ("qtlite.experiments.train.sweep", "qtlite.quantum_train"),
    ],
)
def test_a_rule_allows(importer, imported):
    assert _forbidden(importer, imported) is None
