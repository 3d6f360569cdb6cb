"""Models of a run: targets, the controls, the comparison model QCML, and which one a config has."""

from qtlite.experiments.models.build import build_model as build_model
from qtlite.experiments.models.build import classical as classical
from qtlite.experiments.models.controls import build_control as build_control
from qtlite.experiments.models.qcml import QCML as QCML
from qtlite.experiments.models.targets import paper_cnn as paper_cnn
