"""The command line ``qtlite``: a parser, the commands, and one line for an error."""

import argparse
import inspect
import sys
from collections.abc import Sequence
from importlib.metadata import version

from qtlite.experiments.commands import export, measure, predict, sweep, tables, train

DESCRIPTION = (
    "Quantum-Train: a quantum circuit with a few hundred angles generates the weights of an "
    "ordinary network (Liu et al. 2024, arXiv 2405.11304)."
)
INSTALL = "pip install 'qtlite[experiments]'"
COMMANDS = (train, sweep, tables, measure, export, predict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; an error is one line and status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(arguments).parse_args(arguments)
        options.run(options)
        print(end="", flush=True)
        return 0
    except (ImportError, ValueError, OSError, RuntimeError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        message = "".join(c if c.isprintable() else f"{c!a}"[1:-1] for c in text)
        missing = isinstance(error, ModuleNotFoundError) and "pip install" not in message
        print(f"qtlite: {message}{f': {INSTALL}' if missing else ''}", file=sys.stderr)
        return 2


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser; only the chosen command's options are declared, as that imports their modules."""
    parser = argparse.ArgumentParser(
        prog="qtlite", description=DESCRIPTION, epilog=f"What the commands need: {INSTALL}"
    )
    parser.add_argument("--version", action="version", version=f"qtlite {version('qtlite')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        text = inspect.getdoc(command) or ""
        summary = text.partition("\n")[0].rstrip(".")
        added = commands.add_parser(
            command.__name__,
            help=summary[:1].lower() + summary[1:],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.__name__ in arguments:
            added.set_defaults(run=command(added))
    return parser


if __name__ == "__main__":
    from qtlite_command import main

    sys.exit(main())
