"""Records of runs and measurements: reading, writing, and runs as a table; what chapters import."""

from qtlite.experiments.records.measurements import read_measurement as read_measurement
from qtlite.experiments.records.measurements import read_measurements as read_measurements
from qtlite.experiments.records.query import accuracy_percent as accuracy_percent
from qtlite.experiments.records.query import error_at_training_loss as error_at_training_loss
from qtlite.experiments.records.query import generalization_error as generalization_error
from qtlite.experiments.records.query import mean_difference as mean_difference
from qtlite.experiments.records.query import pooled_deviation as pooled_deviation
from qtlite.experiments.records.query import read_runs as read_runs
from qtlite.experiments.records.query import select as select
from qtlite.experiments.records.query import with_changes as with_changes
from qtlite.experiments.records.records import read_records as read_records
from qtlite.experiments.records.records import record_id as record_id
