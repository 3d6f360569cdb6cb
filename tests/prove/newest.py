"""Which new packages break the tests: each direct dependency alone, on top of the lock.

    python tests/prove/newest.py >report.md

After `make newest`, whose clone in .newest has the newest versions. The environment is .venv, which
the Makefile installs from the lock; it has the lock's versions again afterwards.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
TESTS = ["tests/method", "tests/engine", "tests/export", "tests/experiments"]
QUICK = ["-m", "pytest", "-q", "-x", "-n", "auto", "--dist", "loadfile", "-p", "no:cacheprovider"]


def pins(lock: Path) -> dict[str, str]:
    """Versions by name."""
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in lines}


def direct() -> set[str]:
    """Names of the packages that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}


def run(*command: str, cwd: Path = ROOT) -> tuple[bool, str]:
    """Whether a command succeeds, and the end of what it prints."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode == 0, done.stdout[-3000:]


def main() -> None:
    """Print a report in Markdown, package by package."""
    ours, newest = pins(ROOT / "requirements.lock"), pins(ROOT / ".newest" / "requirements.lock")
    changed = {name: v for name, v in newest.items() if name in ours and ours[name] != v}
    os.environ.pop("PYTHONPATH", None)
    if not run("make", ".venv/installed")[0]:
        sys.exit("the lock cannot be installed")
    broken = []
    for name in sorted(changed.keys() & direct()):
        pin = f"{name}=={changed[name]}"
        fine, text = run(PYTHON, "-m", "pip", "install", "--quiet", pin)
        if fine:
            fine, text = run(PYTHON, *QUICK, *TESTS)
        if not fine:
            broken.append(name)
            print(
                f"## {name} {ours[name]} -> {changed[name]}\n\n```\n{text.strip()}\n```\n",
                flush=True,
            )
        run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "-r", "requirements.lock")
    alone = ", ".join(f"{name} {ours[name]} -> {changed[name]}" for name in sorted(changed))
    print(f"Alone they break the tests: {', '.join(broken) or 'none'}.\n\nAll changes: {alone}.")


if __name__ == "__main__":
    main()
