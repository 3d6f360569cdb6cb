"""A release: one version everywhere, and a wheel with the package and nothing else."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import qtlite

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
BUILD = "from setuptools.build_meta import build_{0}; print(build_{0}({1!r}))"


def test_version_and_date_agree():
    version = PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, date = re.search(r"^## ([\d.]+), (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE).groups()
    assert {qtlite.__version__, newest, CITATION["version"]} == {version}
    assert CITATION["date-released"] == date
    assert f"qtlite-{version}-py3" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_tag_is_the_version():
    command = ["git", "tag", "--points-at", "HEAD"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    tags = subprocess.check_output(command, cwd=ROOT, text=True).split()
    assert {tag for tag in tags if tag.startswith("v")} <= {f"v{PROJECT['version']}"}


def test_the_citation_file_has_what_an_archive_asks_for():
    """Zenodo fills in its form from CITATION.cff."""
    asked = ("title", "authors", "abstract", "keywords", "license", "version", "date-released")
    assert all(CITATION[name] for name in (*asked, "preferred-citation"))
    assert CITATION["license"] == PROJECT["license"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel made from the sdist that is made from a copy of the sources."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for name in ("qtlite", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "qtlite_command.py"):
        shutil.copy(ROOT / name, source)

    def build(kind, cwd):
        command = [sys.executable, "-c", BUILD.format(kind, str(folder))]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
        return folder / done.stdout.split()[-1]

    sdist = build("sdist", source)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return sdist, build("wheel", folder / sdist.name.removesuffix(".tar.gz"))


def test_the_wheel_holds_the_package_and_nothing_else(built):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "qtlite").rglob("*.py")}
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = f"qtlite-{PROJECT['version']}.dist-info"
        metadata = Parser().parsestr(wheel.read(f"{about}/METADATA").decode())
        commands = wheel.read(f"{about}/entry_points.txt").decode()
    assert names == {*modules, "qtlite/py.typed", "qtlite_command.py"}
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "MIT"
    assert "qtlite = qtlite_command:main" in commands


def test_the_sdist_holds_no_tests(built):
    with tarfile.open(built[0]) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert {"qtlite", "qtlite_command.py", "LICENSE", "README.md", "pyproject.toml"} <= tops
    assert not tops & {"tests", "benchmarks", "book"}
