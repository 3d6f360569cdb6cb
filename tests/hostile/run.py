"""Give every malformed input of the lists to the library, and say how it answers.

    python tests/hostile/run.py [--show CATEGORY ...] [--only WORD ...] [--to FILE]

=========  ====================================================================================
category   answer
=========  ====================================================================================
clear      ValueError or status 2; one line names the argument or file, the rule and the value
vague      as clear, but the line does not name the argument or file, or the value
raw        another exception, a traceback, or the end of the process
silent     accepted
hung       no answer within 20 seconds
code ran   a command inside a file was executed
broken     the case itself cannot be run
=========  ====================================================================================

The lists: ``calls.txt`` of calls with one malformed argument, ``commands.txt`` of command lines.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import re
import resource
import shlex
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from files import TRAIN, make_file, make_good_files, run_name

HERE = Path(__file__).parent
SECONDS = 20
MEMORY = 12 * 2**30  # bytes of address space, so that a huge request fails rather than fills it
CATEGORIES = ("clear", "vague", "raw", "silent", "hung", "code ran", "broken")

# whose functions and classes the calls name
MODULES = """
    circuit mapping normalisation inject qnn quantum_train export export.seal experiments.ansaetze
    experiments.config experiments.recipes experiments.data.loading experiments.models.targets
    experiments.models.controls experiments.train.loop experiments.train.runs
    experiments.train.trials experiments.studies.sampling experiments.studies.shots
    experiments.studies.noise experiments.studies.trainability experiments.records.records
    experiments.records.measurements experiments.inference.model_files
    experiments.inference.predict
"""
_PROGRESS = re.compile(r"\d+/\d+ \[")  # of a progress bar
EXPECTED = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    ConnectionError,
    ImportError,
)


@dataclass(frozen=True)
class Case:
    """One line of a list.

    Attributes:
        names: what a clear error names, one of them.
        value: the malformed value, as text; None where the names say enough.
        text: the call, or the words of the command line.
    """

    names: tuple[str, ...]
    value: str | None
    text: str

    @property
    def is_call(self) -> bool:
        return self.value is not None

    def answer(self, good: Path, names: dict[str, Any]) -> tuple[str, str]:
        """Run the case: its category, and what was said."""
        with in_new_folder() as folder:
            found = _call(self, names) if self.is_call else _command(self, good, folder)
            return ("code ran", found[1]) if list(folder.rglob("CODE_RAN")) else found


def read_cases() -> list[Case]:
    """Read both lists."""
    calls = [Case((name,), value, text) for name, value, text in _fields("calls.txt")]
    commands = _fields("commands.txt")
    return calls + [Case(tuple(names.split(", ")), None, text) for names, text in commands]


def _fields(name: str) -> Iterator[list[str]]:
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield line.split(" | ")


def namespace(good: Path) -> dict[str, Any]:
    """What the calls name."""
    import numpy as np
    import tensorcircuit as tc
    import torch
    from torch import nn

    class Source(nn.Module):
        """A source of probabilities that returns what it is given."""

        def __init__(self, given):
            super().__init__()
            self.given = given

        def forward(self):
            return self.given

    class IntegerParameter(nn.Module):
        def __init__(self):
            super().__init__()
            numbers = torch.arange(9)
            self.numbers = nn.Parameter(numbers, requires_grad=False)

    found: dict[str, Any] = {"torch": torch, "nn": nn, "np": np, "tc": tc, "Path": Path}
    found |= {"Source": Source, "IntegerParameter": IntegerParameter, "GOOD": good}
    for module in MODULES.split():  # a name that has moved makes its cases "broken"
        members = vars(importlib.import_module(f"qtlite.{module}")).items()
        found |= {n: v for n, v in members if getattr(v, "__module__", "").startswith("qtlite")}
    return found


@contextlib.contextmanager
def in_new_folder() -> Iterator[Path]:
    """Work in an empty folder, without warnings."""
    with (
        tempfile.TemporaryDirectory(prefix="case-", ignore_cleanup_errors=True) as folder,
        contextlib.chdir(folder),
        warnings.catch_warnings(action="ignore"),
    ):
        yield Path(folder)


def _call(case: Case, names: dict[str, Any]) -> tuple[str, str]:
    try:
        fragments = _fragments(eval(case.value, dict(names)))
    except Exception as error:
        return "broken", f"{type(error).__name__}: {error}"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            eval(case.text, dict(names))
    except NameError as error:
        return "broken", str(error)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        ours = type(error) in EXPECTED or type(error).__module__.startswith("qtlite")
        ours = ours or (type(error) is RuntimeError and " must " in str(error))
        if not ours:
            return "raw", text
        valued = any(fragment in str(error) for fragment in fragments)
        named = any(name in str(error) for name in case.names)
        named = named or (isinstance(error, OSError) and valued)  # the path is name and value
        valued = valued or ", got " in str(error)
        return ("clear" if named and valued and _is_rule(error) else "vague"), text
    return "silent", ""


def _is_rule(error: BaseException) -> bool:
    text = str(error)
    says = " must " in text or isinstance(error, OSError)
    return says and "\n" not in text


def _fragments(value: Any) -> list[str]:
    """What of a value a message may quote."""
    found = [repr(value), str(value), type(value).__name__, getattr(value, "__name__", None)]
    if hasattr(value, "shape"):
        found += [str(tuple(value.shape)), str(value.dtype)]
    if isinstance(value, (list, tuple, dict)):
        found += [repr(entry) for entry in value]
    return [text for text in found if text]


def _command(case: Case, good: Path, folder: Path) -> tuple[str, str]:
    from qtlite.experiments.cli import main

    try:
        words = _words(case.text, good, folder)
    except Exception as error:
        return "broken", f"{type(error).__name__}: {error}"
    out, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            status = main(words)
    except SystemExit as end:
        status = end.code
    except BaseException as error:
        return "raw", f"{type(error).__name__}: {error}"
    lines = re.split(r"[\r\n]+", said.getvalue().strip())
    lines = [line for line in lines if line and not _PROGRESS.search(line)]
    if status == 0:
        return "silent", out.getvalue()
    text = lines[-1] if lines else ""
    by_argparse = bool(lines) and lines[0].startswith("usage:")
    clear = status == 2 and (by_argparse or len(lines) == 1) and text.startswith("qtlite")
    paths = [word for word in words if word.startswith(str(folder))]
    clear = clear and any(name in text for name in (*case.names, *paths))
    return ("clear" if clear else "vague"), "\n".join(lines[-3:] if by_argparse else lines)


def _words(text: str, good: Path, folder: Path) -> list[str]:
    tables = ["tables", "--records", str(good / "tables"), "--to", "new"]
    words: list[str] = []
    for place, word in enumerate(shlex.split(text)):
        if word == "TRAIN":
            words += TRAIN
        elif word == "TABLES":
            words += tables
        elif word == "RUN":
            words.append(run_name(good))
        elif word == "GOOD":
            words.append(str(good / "runs"))
        elif word.startswith("@"):
            path = make_file(word.lstrip("@"), good, folder / str(place))
            runs = path.parents[1] if path.parent.name == run_name(good) else path.parent
            words.append(str(runs if word.startswith("@@") else path))
        else:
            words.append(word.replace("\\0", "\0"))
    return words


def work(pipe: Any, good: Path) -> None:
    """A worker: cases in, answers out."""
    import torch

    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    names = namespace(good)
    pipe.send("ready")
    while (case := pipe.recv()) is not None:
        try:
            pipe.send(case.answer(good, names))
        except BaseException as error:
            pipe.send(("raw", f"{type(error).__name__}: {error}"))


class Worker:
    """A process that runs one case after another, and is replaced when it hangs or dies."""

    def __init__(self, good: Path, seconds: float = SECONDS):
        self.good, self.seconds = good, seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.good))
        self.process.start()
        other.close()
        assert self.pipe.recv() == "ready"

    def answer(self, case: Any) -> tuple[str, str]:
        self.pipe.send(case)
        try:
            if self.pipe.poll(self.seconds):
                return self.pipe.recv()
            found = "hung", f"no answer in {self.seconds} s"
        except EOFError:
            found = "raw", f"the process died with {self.process.exitcode}"
        self.end()
        self._start()
        return found

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def ask(cases: Sequence[Any], good: Path, seconds: float = SECONDS) -> list[tuple[str, str]]:
    """Run all cases in a process of their own: each one's category, and what was said."""
    worker = Worker(good, seconds)
    try:
        return [worker.answer(case) for case in cases]
    finally:
        worker.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lists and print how many answers there are of each category.

    Returns:
        0 if at least 98 % are clear and nothing was accepted, hung, or ran code; else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", nargs="*", default=(), help="categories whose cases to print")
    parser.add_argument("--only", nargs="+", default=("",), help="words that a case must hold")
    parser.add_argument("--to", type=Path, help="a .json file for all answers")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="without an answer: hung")
    options = parser.parse_args(arguments)
    cases = [case for case in read_cases() if any(word in case.text for word in options.only)]
    with tempfile.TemporaryDirectory() as folder:
        make_good_files(Path(folder))
        answers = ask(cases, Path(folder), options.seconds)
    for case, (category, text) in zip(cases, answers, strict=True):
        if category in options.show:
            print(f"{category:8} {case.text}\n         {text[:300]}")
    counts = Counter(category for category, _ in answers)
    print(", ".join(f"{counts[name]} {name}" for name in CATEGORIES), "of", len(cases))
    if options.to:
        rows = [(case.text, *found) for case, found in zip(cases, answers, strict=True)]
        options.to.write_text(json.dumps(rows, indent=0))
    refused = counts["clear"] + counts["vague"] + counts["raw"] == len(cases)
    return 0 if refused and counts["clear"] >= 0.98 * len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
