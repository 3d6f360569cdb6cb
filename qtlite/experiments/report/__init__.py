"""Tables, figures and pages from records and measurements; here, what chapters import."""

from qtlite.experiments.report import figures as figures
from qtlite.experiments.report.comparisons import format_difference as format_difference
from qtlite.experiments.report.comparisons import lead as lead
from qtlite.experiments.report.comparisons import table_deviation as table_deviation
from qtlite.experiments.report.pages import folded as folded
from qtlite.experiments.report.pages import foot as foot
from qtlite.experiments.report.pages import say as say
from qtlite.experiments.report.pages import say_table as say_table
from qtlite.experiments.report.pages import show_table as show_table
from qtlite.experiments.report.pages import table_text as table_text
from qtlite.experiments.report.reproducing import choice_rows as choice_rows
from qtlite.experiments.report.reproducing import measurement_rows as measurement_rows
from qtlite.experiments.report.reproducing import run_rows as run_rows
from qtlite.experiments.report.style import save_svg as save_svg
from qtlite.experiments.report.style import use_book_style as use_book_style
from qtlite.experiments.report.tables import DATASET_NAMES as DATASET_NAMES
from qtlite.experiments.report.tables import accuracy_in_words as accuracy_in_words
from qtlite.experiments.report.tables import choices_table as choices_table
from qtlite.experiments.report.tables import format_accuracy as format_accuracy
from qtlite.experiments.report.tables import long_recipe_table as long_recipe_table
from qtlite.experiments.report.tables import n_steps as n_steps
from qtlite.experiments.report.tables import table as table
from qtlite.experiments.report.tables import trial_rows as trial_rows
