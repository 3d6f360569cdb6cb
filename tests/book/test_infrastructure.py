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
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
BINDER_EXTRAS = ("book", "export", "experiments", "fast")


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked():
    """The pins of requirements.lock: name -> rest of the line."""
    lines = [line.split("#")[0].strip() for line in LOCK.read_text().splitlines()]
    pins = [re.fullmatch(r"([\w.-]+)(.*)", line) for line in lines if line]
    return {normalised(pin[1]): pin[2] for pin in pins}


def direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked_extras = [extras[name] for name in extras if name not in ("bench", "prove")]  # peers
    lines = chain(project["dependencies"], *locked_extras)
    names = {normalised(re.match(r"[\w.-]+", line)[0]) for line in lines}
    return names - {normalised(project["name"])}


def tracked_files():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files are the project's")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file() and file != Path(__file__).resolve()]


def test_lock_pins_every_version_exactly():
    pins = locked()
    assert len(pins) > 100
    for name, rest in pins.items():
        assert re.fullmatch(r'==[\w.]+( ; sys_platform == "\w+")?', rest), f"{name}{rest}"


def test_lock_covers_every_direct_dependency():
    assert direct_dependencies() - set(locked()) == set()


def test_lock_is_what_is_installed():
    """The tests say something about the pinned versions only if they run with them."""
    if not Path(sys.prefix).is_relative_to(ROOT):
        pytest.skip(f"{sys.prefix} is not the environment that make built")
    from importlib.metadata import version

    pins = {name: rest[2:] for name, rest in locked().items() if ";" not in rest}
    installed = {name: version(name).split("+")[0] for name in pins}
    assert installed == pins


def test_lock_is_used_everywhere():
    assert "--requirement requirements.lock" in (ROOT / "Makefile").read_text()
    assert " requirements.lock" in (ROOT / "binder/postBuild").read_text()
    for user in [".ci/run", ".github/workflows/ci.yml"]:  # through make alone
        text = (ROOT / user).read_text()
        assert "make test" in text
        assert "make book" in text
        assert "pip install" not in text


WORKFLOWS = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize(
    "target", sorted({"train", "bench", "clean", *re.findall(r"\bmake ([a-z]\w*)", WORKFLOWS)})
)
def test_make_target_exists(target):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    planned = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert planned.stdout


def test_no_registry_host_or_machine_path_in_tracked_files():
    """A pinned host or a path of one machine is what breaks on the next one."""
    foreign = re.compile(
        r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|deb\.debian\.org"
        r"|(?:https?:|file:)?//[\w.-]*(?:jsdelivr|unpkg|cdnjs)[\w.-]*"
        r"|(?<![\w.~/])/(?:work|root|opt|home|Users)/\w"
    )
    found = {}
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image
        if hits := foreign.findall(text):
            found[file.relative_to(ROOT).as_posix()] = hits
    assert found == {}


def chapters():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())

    def files(entry):
        if isinstance(entry, dict):
            for key, value in entry.items():
                if key in ("root", "file"):
                    yield value
                elif isinstance(value, list):
                    for part in value:
                        yield from files(part)

    return list(files(contents))


def test_every_entry_of_the_contents_exists():
    entries = chapters()
    assert entries[0] == "book/intro"
    assert len(set(entries)) == len(entries)
    assert [entry for entry in entries if not (ROOT / f"{entry}.md").is_file()] == []


def test_every_chapter_is_in_the_contents():
    listed = set(chapters())
    written = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    written |= {f"book/api/{path.stem}" for path in (ROOT / "book/api").glob("*.md")}
    assert written - listed == set()


FENCES = re.compile(
    r"^(`{3,})(\{code-cell\}|\{exercise\}|\{quick-check\}|bash|python).*?^\1\s*$",
    re.DOTALL | re.MULTILINE,
)
TYPED_RESULT = re.compile(r"\d[\d.,]*\s*(?:\\?%|nats?\b)|accuracy (?:of|is|was) \**\d")


@pytest.mark.parametrize("chapter", chapters())
def test_no_result_is_typed_into_prose(chapter):
    """Accuracies and losses come out of cells or records: a typed one goes stale unseen."""
    prose = FENCES.sub("", (ROOT / f"{chapter}.md").read_text())
    typed = [line for line in prose.splitlines() if TYPED_RESULT.search(line)]
    assert typed == []


CELL = re.compile(
    r"^```\{code-cell\} ipython3\n((?:---\n.*?^---\n)?(?::[^\n]*\n)*)(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def cells(chapter):
    """Each code cell's tree, and whether a reader can see the code."""
    for head, code in CELL.findall((ROOT / f"{chapter}.md").read_text()):
        yield ast.parse(code), "remove-input" not in head and "remove-cell" not in head


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


@pytest.mark.parametrize("chapter", chapters())
def test_visible_cells_are_short(chapter):
    """At most 15 lines and two import lines: a cell shows one step of the lesson."""
    long = []
    for head, code in CELL.findall((ROOT / f"{chapter}.md").read_text()):
        if re.search(r"(hide|remove)-(cell|input)", head):
            continue
        imported = sum(
            node.end_lineno - node.lineno + 1
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
        lines = sum(bool(line.strip()) for line in code.splitlines())
        if lines > 15 or imported > 2:
            long.append(f"{lines} lines, {imported} of imports: {code.strip().splitlines()[0]}")
    assert long == []


@pytest.mark.parametrize("chapter", chapters())
def test_prose_is_plain_english(chapter):
    text = " ".join((ROOT / f"{chapter}.md").read_text().lower().split())
    assert {idiom: say for idiom, say in IDIOMS.items() if re.search(idiom, text)} == {}


def test_every_table_has_a_caption_and_a_name():
    """Those that cells show, by their calls; those of the text stand in a table directive."""
    bare, named = [], []
    for chapter in chapters():
        for tree, _ in cells(chapter):
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                    continue
                given = {"say_table": 3, "show_table": 4}.get(node.func.id)
                starred = [arg for arg in node.args if isinstance(arg, ast.Starred)]
                if given and len(node.args) + len(starred) < given:
                    bare.append(f"{chapter}: {ast.unparse(node)[:60]}")
                for arg in node.args[1:]:
                    if isinstance(arg, ast.Constant) and str(arg.value).startswith("table-"):
                        named.append(arg.value)
        text = re.sub(
            r"^(`{3,}).*?^\1$", "", (ROOT / f"{chapter}.md").read_text(), flags=re.M | re.S
        )
        bare += [f"{chapter}: {line[:60]}" for line in re.findall(r"^\|.*", text, re.M)]
    assert bare == []
    assert len(named) == len(set(named)) > 40


@pytest.mark.parametrize("chapter", chapters())
def test_visible_cells_need_no_hidden_ones(chapter):
    """Whoever copies the cells that the page shows gets no NameError."""
    shown, hidden, missing = set(), set(), set()
    for tree, visible in cells(chapter):
        made, used = names(tree)
        if visible:
            missing |= (used - made - shown) & hidden
            shown |= made
        else:
            hidden |= made
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


def test_the_book_names_files_that_exist():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    logo = config["sphinx"]["config"]["html_theme_options"]["logo"]
    named = [config["logo"], config["html"]["favicon"], logo["image_light"], logo["image_dark"]]
    assert [
        name for name in [*named, *config["bibtex_bibfiles"]] if not (ROOT / name).exists()
    ] == []


def test_binder_asks_for_a_python_that_the_package_takes():
    version = (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={version}"


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binder_runs_scripts_that_are_executable_and_sound(name):
    script = ROOT / "binder" / name
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_binder_leaves_out_the_tools_of_tests_and_clusters_and_nothing_else():
    """What no chapter needs: locked packages that book and export do not require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed, waiting = (
        set(),
        {
            (normalised(one.name), tuple(one.extras))
            for line in chain(project["dependencies"], *map(extras.get, BINDER_EXTRAS))
            if (one := Requirement(line)).name != project["name"]
        },
    )
    while waiting:
        name, wanted = waiting.pop()
        needed.add(name)
        for line in metadata.requires(name) or ():
            one = Requirement(line)
            found, marker = normalised(one.name), one.marker or Marker('python_version > "3"')
            if found not in needed and any(marker.evaluate({"extra": e}) for e in ("", *wanted)):
                waiting.add((found, tuple(one.extras)))
    left_out = re.search(r"not_needed='(.*)'", (ROOT / "binder/postBuild").read_text())[1]
    assert set(left_out.split("|")) == set(locked()) - needed


def test_binder_builds_from_what_is_here(tmp_path):
    """The Dockerfile that Binder would build, made without Docker."""
    beside = ROOT / ".repo2docker/bin/repo2docker"
    program = str(beside) if beside.exists() else shutil.which("repo2docker")
    if program is None:
        pytest.skip("repo2docker is not installed: make repo2docker")
    for name in ("binder", "requirements.lock", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    run = subprocess.run(
        [program, "--no-build", "--debug", "."],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    dockerfile = run.stdout + run.stderr
    assert "python=3.11" in dockerfile
    assert "./binder/postBuild" in dockerfile
    assert "binder/start" in dockerfile
