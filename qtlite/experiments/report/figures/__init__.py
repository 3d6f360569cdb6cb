"""The book's figures; every function returns a ``matplotlib.figure.Figure``."""

from qtlite.experiments.report.figures.curves import accuracy_by_blocks as accuracy_by_blocks
from qtlite.experiments.report.figures.curves import compared_models as compared_models
from qtlite.experiments.report.figures.curves import distribution as distribution
from qtlite.experiments.report.figures.curves import lines as lines
from qtlite.experiments.report.figures.curves import loss_curves as loss_curves
from qtlite.experiments.report.figures.curves import measured_points as measured_points
from qtlite.experiments.report.figures.curves import probability_bars as probability_bars
from qtlite.experiments.report.figures.curves import state_bars as state_bars
from qtlite.experiments.report.figures.networks import (
    generated_and_baseline as generated_and_baseline,
)
from qtlite.experiments.report.figures.networks import heatmaps as heatmaps
from qtlite.experiments.report.figures.networks import image_row as image_row
from qtlite.experiments.report.figures.networks import inside_network as inside_network
