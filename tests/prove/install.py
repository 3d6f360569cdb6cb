"""The wheel in fresh environments: README's lines, train, export, predict; no make, no checkout.

    python tests/prove/install.py [PYTHON ...]

Without interpreters: one of each version from 3.11 on that this machine has. Each environment gets
the newest packages that pip finds, without the lock. A new environment takes minutes and, where
only PyTorch for CUDA is to be had, gigabytes; it is deleted afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
INDEX = "https://download.pytorch.org/whl/cpu"  # builds without CUDA, where it can be reached
CPU_ONLY = ["--extra-index-url", INDEX, "--retries", "0", "--timeout", "10"]
DIGITS = """
from PIL import Image
from qtlite.experiments.data import load_dataset
digits = load_dataset("digits")
for i in range(20):
    name = f"{i:02d}-{digits.test_labels[i]}.png"
    Image.fromarray(digits.test_images[i, 0].numpy()).save(name)
"""


def interpreters() -> list[str]:
    """One interpreter of each version from 3.11 on: from the path, or where pyenv keeps them."""
    found: dict[str, str] = {}
    kept = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    for name in [*(f"python3.{minor}" for minor in range(11, 20)), *map(str, kept)]:
        command = [name, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        if shutil.which(name) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True)
        version = done.stdout.strip()
        if done.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 11):
            found.setdefault(version, name)
    return list(found.values())


def build(folder: Path) -> Path:
    """The wheel of this checkout."""
    source = folder / "source"
    shutil.copytree(ROOT / "qtlite", source / "qtlite")
    for name in ("pyproject.toml", "README.md", "LICENSE", "qtlite_command.py"):
        shutil.copy(ROOT / name, source)
    words = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A fresh virtual environment, and a folder of its own to work in."""

    def __init__(self, python: str, folder: Path):
        self.place = folder
        # what pip and Python would take from this shell, except where packages come from
        names = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "QTLITE_DATA", "QTLITE_COMMIT")
        self.variables = {k: v for k, v in os.environ.items() if k not in names}
        self.timed("venv", [python, "-m", "venv", str(folder / "env")])
        scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        self.python, self.qtlite = str(scripts / "python"), str(scripts / "qtlite")

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.place, env=self.variables, capture_output=True, text=True
        )
        if done.returncode != status:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout + done.stderr

    def timed(self, what: str, command: list[str], status: int = 0) -> str:
        start = time.perf_counter()
        shown = self.run(*command, status=status)
        print(f"  {what:24} {time.perf_counter() - start:6.0f} s", flush=True)
        return shown

    def install(self, what: str, *words: str) -> None:
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        self.timed(what, [*pip, *words])


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel and use it as a reader would."""
    one = Environment(python, folder)
    one.install("PyTorch", *CPU_ONLY, "torch", "torchvision")
    one.install("wheel, core only", str(wheel))
    for words, status in ((["--help"], 0), (["train"], 2)):
        shown = one.timed(f"qtlite {words[0]}, core only", [one.qtlite, *words], status)
        assert "pip install 'qtlite[experiments]'" in shown, shown
    one.install("wheel, with extras", f"{wheel}[experiments,export]")
    shutil.copy(ROOT / "README.md", folder)
    one.timed("README's five lines", [one.python, "-m", "doctest", "README.md"])
    shown = one.timed("qtlite train", [one.qtlite, "train", "--quiet"])
    (record,) = folder.glob("runs/*/record.json")
    accuracy = float(shown.partition("test accuracy")[2].split()[0])
    assert accuracy > 85, shown
    words = ["export", record.parent.name, "--to", "onnx", "compressed", "--name", "mine"]
    one.timed("qtlite export", [one.qtlite, *words])
    one.run(one.python, "-c", DIGITS)
    pictures = sorted(path.name for path in folder.glob("*.png"))
    for kind in ("onnx", "angles.safetensors"):
        words = ["predict", f"mine.{kind}", *pictures]
        shown = one.timed(f"predict, {kind}", [one.qtlite, *words])
        lines = [line.split() for line in shown.splitlines()[1:]]
        n_right = sum(line[0][3] == line[1] for line in lines)
        assert len(lines) == 20, shown
        assert n_right >= 15, shown
    versions = one.run(one.python, "-m", "pip", "freeze").split()
    shown = [v for v in versions if v.split("==")[0] in ("torch", "numpy", "numba", "onnx")]
    print(f"  {accuracy} % of digits, {n_right} of 20 pictures right; {', '.join(shown)}")


def main() -> None:
    """Check every interpreter, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        for number, python in enumerate(sys.argv[1:] or interpreters()):
            print(subprocess.check_output([python, "-V"], text=True).strip(), flush=True)
            place = Path(folder, str(number))
            place.mkdir()
            check(python, wheel, place)
            shutil.rmtree(place)
    print("all passed")


if __name__ == "__main__":
    main()
