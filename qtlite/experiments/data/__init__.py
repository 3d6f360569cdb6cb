"""Datasets: ``catalogue`` describes them, ``loading`` reads them; here, what chapters import."""

from qtlite.experiments.data.loading import fetch as fetch
from qtlite.experiments.data.loading import load_dataset as load_dataset
