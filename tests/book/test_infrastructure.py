"""The lock file, the make targets, the book's contents and Binder: what a fresh clone relies on."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# as a string, so that a cell's options and its code are told apart
CELL = re.compile(
    r"^```\{code-cell\} ipython3\n((?:---\n.*?^---\n)?(?::[^\n]*\n)*)(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FENCES = re.compile(
    r"^(`{3,})(\{code-cell\}|\{exercise\}|\{quick-check\}|bash|python).*?^\1\s*$",
    re.DOTALL | re.MULTILINE,
)
TYPED_RESULT = re.compile(r"\d[\d.,]*\s*(?:\\?%|nats?\b)|accuracy (?:of|is|was) \**\d")
# Sentences that puzzle those for whom English is a second language, with what to write instead.
IDIOMS = {
    "as usual": "directly; the baseline",
    "usual network": "baseline",
    "images a step": "batch size",
    "by heart": "overfitting",
    r"\blest\b": "so that ... not",
    "nobody has made": "not run yet",
    "of which so many": "two sentences",
    r"what of\b": "a question with a verb",
    "thrice": "three times",
    "of its own accord": "without being told",
    "index net": "hypernetwork",
    "looked at again": "read again",
    "flattered": "too high",
    "are none": "are not differences",
    "with more time": "long recipe",
}


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked():
    """The pins of requirements.lock by name."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {normalised(pin.name): pin for pin in pins}


def needed(extras):
    """The packages that the project and its extras require, and what these require."""
    found, waiting = set(), {(PROJECT["name"], ())}
    lines = {PROJECT["name"]: [*PROJECT["dependencies"], *chain(*map(EXTRAS.get, extras))]}
    while waiting:
        name, wanted = waiting.pop()
        found.add(name)
        for line in lines.get(name) or metadata.requires(name) or ():
            one = Requirement(line)
            applies = one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in ("", *wanted)
            )
            if applies and normalised(one.name) not in found:
                waiting.add((normalised(one.name), tuple(one.extras)))
    return found - {PROJECT["name"]}


def test_lock_pins_every_direct_dependency_exactly():
    pins = locked()
    assert [pin for pin in pins.values() if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []
    extras = [lines for name, lines in EXTRAS.items() if name not in ("bench", "prove")]  # peers
    direct = {normalised(Requirement(line).name) for line in chain(*extras)}
    assert direct - {PROJECT["name"]} - set(pins) == set()


def test_lock_is_what_is_installed():
    """The tests say something about the pinned versions only if they run with them."""
    if not Path(sys.prefix).is_relative_to(ROOT):
        pytest.skip(f"{sys.prefix} is not the environment that make built")
    pins = {name: str(pin.specifier)[2:] for name, pin in locked().items() if not pin.marker}
    assert {name: metadata.version(name).split("+")[0] for name in pins} == pins


def test_make_targets_of_the_workflows_exist():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    targets = {"train", "bench", "clean", *re.findall(r"\bmake ([a-z]\w*)", workflows)}
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)


def test_no_registry_host_or_machine_path_in_tracked_files():
    """A pinned host or a path of one machine is what breaks on the next one."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files are the project's")
    foreign = (
        r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|yarnpkg\.com|deb\.debian\.org"
        r"|((https?|file):)?//[a-zA-Z0-9_.-]*(jsdelivr|unpkg|cdnjs)"
        r"|(^|[^a-zA-Z0-9_.~/])/(work|root|opt|home|Users)/[a-zA-Z0-9_]"
    )
    command = ["git", "grep", "-InE", foreign, "--", ".", f":!{Path(__file__).relative_to(ROOT)}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("", "")


def listed(entry):
    """The files of a part of the contents."""
    if isinstance(entry, list):
        return list(chain(*map(listed, entry)))
    own = [entry[key] for key in ("root", "file") if key in entry]
    return own + [
        file for value in entry.values() if isinstance(value, list) for file in listed(value)
    ]


CHAPTERS = listed(yaml.safe_load((ROOT / "_toc.yml").read_text()))
TEXTS = {chapter: (ROOT / f"{chapter}.md").read_text() for chapter in CHAPTERS}


def test_the_contents_list_every_chapter_once():
    files = [*(ROOT / "book").glob("*.md"), *(ROOT / "book/api").glob("*.md")]
    assert sorted(CHAPTERS) == sorted(
        path.relative_to(ROOT).with_suffix("").as_posix() for path in files
    )
    assert CHAPTERS[0] == "book/intro"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_prose_is_plain_english_and_types_no_result(chapter):
    """Accuracies and losses come out of cells or records: a typed one goes stale unseen."""
    prose = FENCES.sub("", TEXTS[chapter])
    assert [line for line in prose.splitlines() if TYPED_RESULT.search(line)] == []
    text = " ".join(TEXTS[chapter].lower().split())
    assert {idiom: say for idiom, say in IDIOMS.items() if re.search(idiom, text)} == {}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_visible_cells_are_short(chapter):
    """At most 15 lines and two import lines: a cell shows one step of the lesson."""
    long = []
    for head, code in CELL.findall(TEXTS[chapter]):
        if re.search(r"(hide|remove)-(cell|input)", head):
            continue
        imports = [
            n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        imported = sum(node.end_lineno - node.lineno + 1 for node in imports)
        lines = sum(bool(line.strip()) for line in code.splitlines())
        if lines > 15 or imported > 2:
            long.append(f"{lines} lines, {imported} of imports: {code.strip().splitlines()[0]}")
    assert long == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_visible_cells_need_no_hidden_ones(chapter):
    """Whoever copies the cells that the page shows gets no NameError."""
    shown, hidden, missing = set(), set(), set()
    for head, code in CELL.findall(TEXTS[chapter]):
        made, used = names(ast.parse(code))
        if "remove-input" in head or "remove-cell" in head:
            hidden |= made
        else:
            missing |= (used - made - shown) & hidden
            shown |= made
    assert missing == set()


def names(tree):
    """Those that a tree binds, and those that it reads."""
    made, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return made, used


def test_binder_leaves_out_the_tools_of_tests_and_clusters_and_nothing_else():
    """What no chapter needs: locked packages that book and export do not require."""
    text = (ROOT / "binder/postBuild").read_text()
    left_out = re.search(r"not_needed='(.*)'", text)[1].split("|")
    assert set(left_out) == set(locked()) - needed(("book", "export", "experiments", "fast"))
    assert " requirements.lock" in text


def test_binder_builds_from_what_is_here(tmp_path):
    """The Dockerfile that Binder would build, made without Docker."""
    for name in ("postBuild", "start"):
        assert (ROOT / "binder" / name).stat().st_mode & 0o111
        subprocess.run(["bash", "-n", ROOT / "binder" / name], check=True)
    beside = ROOT / ".repo2docker/bin/repo2docker"
    program = str(beside) if beside.exists() else shutil.which("repo2docker")
    if program is None:
        pytest.skip("repo2docker is not installed: make repo2docker")
    shutil.copytree(ROOT / "binder", tmp_path / "binder")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [program, "--no-build", "--debug", "."]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    for text in ("python=3.11", "./binder/postBuild", "binder/start"):
        assert text in run.stdout + run.stderr
