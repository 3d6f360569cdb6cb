"""Old names, until the command line has the new ones."""

from qtlite.experiments.studies.study import run_study as measure
from qtlite.experiments.studies.study import studies

__all__ = ["NAMES", "measure"]
NAMES = tuple(studies())
