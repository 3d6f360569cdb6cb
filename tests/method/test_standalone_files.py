"""Files that the README says can be copied alone into coursework."""

import ast
from pathlib import Path

import pytest

import qtlite


@pytest.mark.parametrize("name", ["circuit", "mapping", "inject", "normalisation"])
def test_file_imports_nothing_of_ours(name):
    tree = ast.parse((Path(qtlite.__file__).parent / f"{name}.py").read_text())
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {module.partition(".")[0] for module in modules}
    assert outside <= {"__future__", "collections", "copy", "dataclasses", "itertools", "math",
                       "typing", "torch", "tensorcircuit"}  # fmt: skip
