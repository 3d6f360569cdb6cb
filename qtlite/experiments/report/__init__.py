"""Tables, figures and pages from records and measurements; here, what chapters import."""

from qtlite.experiments.report import figures as figures
from qtlite.experiments.report.pages import foot as foot
from qtlite.experiments.report.pages import say as say
from qtlite.experiments.report.pages import show_table as show_table
from qtlite.experiments.report.style import save_svg as save_svg
from qtlite.experiments.report.style import use_book_style as use_book_style
