"""Damage files at random, from a seed, and say how their readers answer.

    python tests/hostile/fuzz.py [--files N] [--seed N] [--seconds S] [--show CATEGORY ...]

=========  ====================================================================================
category   answer
=========  ====================================================================================
refused    an error in one line that names the file
same       accepted, with the numbers of the good file
resealed   accepted with other numbers, under a new checksum that is right: a checksum finds
           accidents, not forgery, since anybody can compute it
input      accepted with other numbers, in a file that users bring, which has no checksum: a .jpg or
           .npy picture, a list of runs; what such a file holds is what is asked for
wrong      accepted with other numbers, anywhere else
vague      an error that does not name the file, or has several lines
raw        another exception, or the end of the process
hung       no answer within 20 seconds
code ran   a command was executed, or a file outside the folder was opened to be written
=========  ====================================================================================
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from files import make_file, make_good_files, unsealed
from run import EXPECTED, SECONDS, ask, in_new_folder

from qtlite.experiments.inference.predict import load_classifier, read_images
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.records.measurements import read_measurement
from qtlite.experiments.records.records import SUMS, read_records
from qtlite.experiments.train.checkpoint import read_checkpoint
from qtlite.experiments.train.trials import read_configs
from qtlite.export import load_safetensors
from qtlite.export.seal import MARK, seal_file

CATEGORIES = ("refused", "same", "resealed", "input", "wrong", "vague", "raw", "hung", "code ran")
BAD = ("wrong", "vague", "raw", "hung", "code ran")
INPUT = ("good.jpg", "good.npy", "sweep.json")
NUMBERS = (b"NaN", b"Infinity", b"1e999", b"-1", b"null", b'"text"', b"[]", b"{}", b"9" * 5000)


def _classifier(path: Path) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)
    model = load_classifier(path)
    return model.logits(images).tolist(), model.classes


def _network(path: Path) -> Any:
    network = paper_cnn("digits")
    load_safetensors(network, path)
    return network.state_dict()


def _picture(path: Path) -> Any:
    return read_images(path, (1, 28, 28)).tolist()


def _records(path: Path) -> Any:
    return read_records(path.parent)


READERS: dict[str, Callable[[Path], Any]] = {
    "net.json": _classifier,
    "net.onnx": _classifier,
    "net.safetensors": _classifier,
    "net.angles.safetensors": _classifier,
    "classical.safetensors": _network,
    "checkpoint.pt": read_checkpoint,
    "record.json": _records,
    "mnist.json": _records,
    "sweep.json": read_configs,
    "shots-mnist-L16.json": read_measurement,
    "good.png": _picture,
    "good.jpg": _picture,
    "good.npy": _picture,
}

_opened: list[str] = []  # what the audit hook has seen
_expected: dict[str, Any] = {}  # what the good files give


@dataclass(frozen=True)
class Damage:
    """A damaged file: which one, and the seed of the damage."""

    name: str
    seed: int

    def answer(self, good: Path, names: dict[str, Any]) -> tuple[str, str]:
        """Read the damaged file: the category of the answer, and what was said."""
        read = READERS[self.name]
        if not _expected:
            sys.addaudithook(_watch)
        if self.name not in _expected:
            with in_new_folder() as folder:
                _expected[self.name] = read(make_file(self.name, good, folder))
        with in_new_folder() as folder:
            path = make_file(self.name, good, folder)
            shutil.copy(good / SUMS, path.parent)  # digests of the two files without a checksum
            new_seal = damage(path, good, random.Random(f"{self.name} {self.seed}"))
            _opened.clear()
            try:
                found = read(path)
            except BaseException as error:
                return self._refusal(error)
            if _opened:
                return "code ran", str(_opened)
        if _equal(found, _expected[self.name]):
            return "same", ""
        return ("resealed" if new_seal else "input" if self.name in INPUT else "wrong"), ""

    def _refusal(self, error: BaseException) -> tuple[str, str]:
        text = f"{type(error).__name__}: {error}"
        if _opened:
            return "code ran", str(_opened)
        if type(error) not in EXPECTED:
            return "raw", text
        clear = self.name in str(error) and "\n" not in str(error)
        return ("refused" if clear else "vague"), text


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"):
        _opened.append(f"{event} {arguments[:1]}")
    if event == "open" and isinstance(arguments[0], str):
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = os.path.abspath(arguments[0]).startswith(os.getcwd())
        if writes and not inside and "__pycache__" not in arguments[0]:
            _opened.append(f"open {arguments[0]}")


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, expected)
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_equal(found[key], expected[key]) for key in expected)
        )
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    return found == expected


def damage(path: Path, good: Path, chance: random.Random) -> bool:
    """Damage a file in one to three ways; True if it has a new checksum afterwards."""
    content = path.read_bytes()
    for _ in range(chance.choice((1, 1, 2, 3))):
        content = damaged(content, path.name, good, chance)
    new_seal = MARK.encode() in content and chance.random() < 0.5
    path.write_bytes(unsealed(content) if new_seal else content)
    if new_seal:
        try:
            seal_file(path)
        except ValueError:  # the place of the checksum is damaged itself
            new_seal = False
    return new_seal


def damaged(content: bytes, name: str, good: Path, chance: random.Random) -> bytes:
    """The content of a file after damage in one way."""
    ways = ["flip", "flip", "cut", "insert", "zero", "repeat", "splice", "swap"]
    ways += ["number", "number", "nest", "not utf-8"] if name.endswith(".json") else []
    ways += ["directory"] if name == "checkpoint.pt" else []
    first = chance.randrange(len(content) + 1)
    last = min(len(content), first + chance.choice((1, 8, 64, 1000)))
    before, piece, after = content[:first], content[first:last], content[last:]
    match chance.choice(ways):
        case "flip":
            changed = bytearray(content)
            for _ in range(chance.choice((1, 1, 10)) if content else 0):
                # headers are short, so half of the flips go there
                end = chance.choice((min(len(content), 400), len(content)))
                changed[chance.randrange(end)] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case "cut":
            return before
        case "zero":
            return before + bytes(len(piece)) + after
        case "repeat":
            return before + piece * chance.choice((2, 3, 51)) + after
        case "swap":
            place = chance.randrange(len(before + after) + 1)
            return (before + after)[:place] + piece + (before + after)[place:]
        case "splice":
            other = (good / chance.choice(list(READERS))).read_bytes()
            start = chance.randrange(len(other) + 1)
            return before + other[start : start + len(piece)] + after
        case "number":
            places = re.finditer(rb'(?<=[:\[,]) ?(-?[\d.]+|"[^"]*"|null|true|false)', content)
            start, end = chance.choice([place.span() for place in places] or [(first, last)])
            return content[:start] + chance.choice(NUMBERS) + content[end:]
        case "insert":
            new = chance.randbytes(chance.choice((1, 8, 200)))
        case "nest":
            new = chance.choice((b"[", b'{"a":')) * chance.choice((100, 100_000))
        case "not utf-8":
            new = chance.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xef\xbb\xbf"))
        case "directory":  # a second zip behind, before or inside the first; or its directory alone
            second = (good / "checkpoint.pt").read_bytes()
            new = chance.choice((second, second[second.find(b"PK\x01\x02") :], second[-22:]))
            first = chance.choice((0, len(content), first))
    return content[:first] + new + content[first:]


def damages(n_files: int, seed: int) -> list[Damage]:
    """Damaged files, as many of each kind."""
    rounds = -(-n_files // len(READERS))
    return [Damage(name, seed + i) for i in range(rounds) for name in READERS][:n_files]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how many answers there are of each category; 1 if there are bad ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="without an answer: hung")
    parser.add_argument("--show", nargs="*", default=BAD)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        make_good_files(Path(folder))
        jobs = damages(options.files, options.seed)
        answers = ask(jobs, Path(folder), options.seconds)
    for job, (category, text) in zip(jobs, answers, strict=True):
        if category in options.show:
            print(f"{category:8} {job.name} {job.seed}: {text[:300]}")
    counts = Counter(category for category, _ in answers)
    print(", ".join(f"{counts[name]} {name}" for name in CATEGORIES), "of", len(answers))
    return int(any(counts[name] for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
