"""Datasets: ``catalogue`` describes them, ``loading`` reads them."""

from qtlite.experiments.data.catalogue import CATALOGUE as CATALOGUE
from qtlite.experiments.data.catalogue import DATASETS as DATASETS
from qtlite.experiments.data.catalogue import entry_of as entry_of
from qtlite.experiments.data.loading import DATA_FOLDER as DATA_FOLDER
from qtlite.experiments.data.loading import DATA_VARIABLE as DATA_VARIABLE
from qtlite.experiments.data.loading import Dataset as Dataset
from qtlite.experiments.data.loading import available as available
from qtlite.experiments.data.loading import fetch as fetch
from qtlite.experiments.data.loading import find_files as find_files
from qtlite.experiments.data.loading import load_dataset as load_dataset
from qtlite.experiments.data.loading import to_float as to_float
