"""The tables and the README, from records made here and from the book's."""

from pathlib import Path

import pytest
from refusals import refused

from qtlite.experiments import recipes
from qtlite.experiments.controls import CONTROLS
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.query import (
    accuracy_percent,
    as_frame,
    mean_difference,
    pooled_deviation,
    read_runs,
    select,
    with_changes,
)
from qtlite.experiments.records.records import read_records
from qtlite.experiments.report.comparisons import lead, table_deviation, with_weight_decay
from qtlite.experiments.report.tables import (
    README_TABLES,
    choices_table,
    format_accuracy,
    table,
    write_readme,
    write_tables,
)
from qtlite.export.schema import read_json

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def book_runs():
    return read_runs(ROOT / "book/records")


def record(accuracy, recipe="qtlite", dataset="mnist", **changes):
    config = recipe_config(recipe, dataset, **changes)
    return {
        "id": f"run-{accuracy}-{config.seed}",
        "dataset": dataset,
        "model": config.model,
        "recipe": config.recipe,
        "n_blocks": None if config.model in ("classical", "qcml") else config.n_blocks,
        "seed": config.seed,
        "evaluated_on": "validation" if config.n_validation else "test",
        "test_accuracy": accuracy,
        "wall_seconds": 120.0,
        "config": config.to_dict(),
    }


def frame(*records):
    return as_frame(records)


def line(text, name):
    return next(row for row in text.splitlines() if row.startswith(f"| {name} "))


def test_a_table_shows_what_follows_the_recipes_and_nothing_else():
    short, long = (WEIGHT_DECAY[recipe]["cifar10"] for recipe in ("qtlite", "thorough"))
    cifar, classical = {"dataset": "cifar10"}, {"dataset": "cifar10", "model": "classical"}
    departing = [{"n_validation": 5000}, {"n_train": 1000}, {"learning_rate": 0.5}]
    runs = frame(
        *(record(0.57 + 0.008 * (seed - 1), n_blocks=19, seed=seed, **cifar) for seed in range(3)),
        record(0.58, n_blocks=323, **cifar),
        record(0.56, recipe="literal", n_blocks=19, **cifar),
        record(0.69, **classical),
        record(0.692, weight_decay=short, **classical),
        record(0.7, recipe="thorough", **classical),
        record(0.693, recipe="thorough", weight_decay=long, **classical),
        record(0.65, relu=False, **classical),
        record(0.64, model="qcml", **cifar),
        *(record(0.5, n_blocks=95, **cifar, **changes) for changes in departing),
        record(0.5, n_blocks=95, activation="none", **cifar),
    )
    head, _, *rows = table("cifar10", runs).splitlines()
    steps = "| qtlite, 1,000 steps | thorough, 5,000 steps | literal, 50,000 steps |"
    assert head == f"| model | trainable parameters | paper {steps}"
    assert rows[:3] + rows[5:10] == [
        "| classical CNN | 285,226 | 62.50 | 69.00 (1) | 70.00 (1) | – |",
        "| QT-19 | 17,482 | 28.73 | 57.00 ± 0.80 (3) | – | 56.00 (1) |",
        "| QT-95 | 18,926 | 44.76 | – | – | – |",
        "| QT-323 | 23,258 | 60.69 | 58.00 (1) | – | – |",
        f"| classical CNN, weight decay {short:g} | 285,226 |  | 69.20 (1) |  |  |",
        f"| classical CNN, weight decay {long:g} | 285,226 |  |  | 69.30 (1) |  |",
        "| classical CNN, no ReLU | 285,226 |  | 65.00 (1) |  |  |",
        "| QCML | 146,286 |  | 64.00 (1) |  |  |",
    ]
    assert "one run deviates by 0.80 points" in rows[11]
    # 60,000 images by 128 make 469 batches, the last one smaller
    assert "| qtlite, 9,380 steps |" in table("mnist", runs)
    assert with_weight_decay(runs, "cifar10", "literal").empty
    refused("dataset must be one of .*, got 'digits'", table, "digits", frame())


def test_same_records_same_bytes(tmp_path):
    records = [record(0.96, seed=1), record(0.97, seed=0)]
    write_tables(frame(*records), tmp_path / "a")
    write_tables(frame(*reversed(records)), tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_tables_stand_between_the_readmes_comments_and_nowhere_else(tmp_path):
    path = tmp_path / "README.md"
    parts = [f"<!-- table: {name} -->\nold\n<!-- end of table -->\nafter" for name in README_TABLES]
    path.write_text("before\n" + "\n".join(parts) + "\n")
    write_readme(frame(record(0.96)), path)
    lines = path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "| Table I, QT-16 | 457 | 81.08 | 96.00 (1) | 2.0 |" in lines
    path.write_text("no comments")
    text = "path must hold the comments .* got .*README.md without"
    refused(text, write_readme, frame(), path)
    path.write_bytes(b"\xff")
    refused(r"path must be a text file, got .*README\.md: ", write_readme, frame(), path)


@pytest.mark.parametrize("name", ["README.md", *(f"book/tables/{d}.md" for d in TABLES)])
def test_committed_tables_are_those_of_the_committed_records(name, book_runs, tmp_path):
    committed = (ROOT / name).read_bytes()
    copy = tmp_path / name
    if name == "README.md":
        copy.write_bytes(committed)
        write_readme(book_runs, copy)
    else:
        write_tables(book_runs, copy.parent)
    assert copy.read_bytes() == committed, "run: qtlite tables --readme README.md"


def test_what_the_readme_says_about_its_tables_is_so(book_runs):
    """Each sentence beside the numbers that would contradict it, where no chapter's claim does."""
    text = " ".join((ROOT / "README.md").read_text().split())

    def runs(dataset, model="qt", recipe="qtlite", **choice):
        return select(book_runs, dataset=dataset, model=model, recipe=recipe, **choice)

    def mean(*choice, **others):
        return accuracy_percent(runs(*choice, **others))[0]

    assert "every control is also above the paper's 81.08 % on MNIST and 65.69 %" in text
    for dataset, paper in (("mnist", 81.08), ("fashion_mnist", 65.69)):
        assert TABLES[dataset][1].test_accuracy == paper
        assert min(mean(dataset, model, n_blocks=16) for model in CONTROLS) > paper

    changes = {"optimiser": "full_matrix_adam", "learning_rate": 0.005}
    changed = with_changes(book_runs, "mnist", model="hypernetwork", n_blocks=61, **changes)
    assert "once it gets full-matrix Adam (98.67 %" in text
    assert format_accuracy(changed).startswith("98.67")
    difference, error = mean_difference(changed, runs("mnist", n_blocks=61))
    assert abs(difference) < 2 * error

    assert "`hashed` is one point behind QT-323 after 100 epochs." in text
    deepest, hashed = (mean("cifar10", m, "thorough", n_blocks=323) for m in ("qt", "hashed"))
    assert round(deepest - hashed) == 1
    assert "it is 10 points ahead of QT-95 (71.11 %, one seed)" in text
    assert format_accuracy(runs("cifar10", "hashed", n_blocks=95)) == "71.11 (1)"
    assert round(mean("cifar10", "hashed", n_blocks=95) - mean("cifar10", n_blocks=95)) == 10

    assert "about 4 to 12 times as many parameters" in text
    ratios = [rows[0].n_trainable / rows[-1].n_trainable for rows in TABLES.values()]
    assert 3.5 < min(ratios) < max(ratios) < 12.5


def test_a_changed_recipe_hides_no_run_and_says_so(monkeypatch):
    """Today's tables, after somebody gives the recipe another learning rate."""
    before = [record(0.96 + 0.01 * seed, seed=seed) for seed in (0, 1)]
    before += [record(0.5, n_validation=5000), record(0.99, n_blocks=121)]
    fields = [[], [], ["n_validation"], []]
    stored = [old | {"departures": names} for old, names in zip(before, fields, strict=True)]
    monkeypatch.setitem(recipes.QT_RATES, "full_matrix_adam", 0.007)
    text = table("mnist", frame(*stored))
    assert line(text, "QT-16") == "| QT-16 | 457 | 81.08 | 96.50 ± 0.71 (2)† |"
    assert line(text, "QT-121") == "| QT-121 | 1,822 | 93.05 | 99.00 (1) |"  # plain Adam
    assert text.endswith("\n† Runs of an earlier recipe, which differed in: learning_rate.\n")
    # runs of today's recipe replace them; runs that store nothing are compared with it
    text = table("mnist", frame(*stored, record(0.98)))
    assert line(text, "QT-16") == "| QT-16 | 457 | 81.08 | 98.00 (1) |"
    assert "–" in line(table("mnist", frame(*before)), "QT-16")


def test_every_record_of_the_book_has_its_decision(book_runs):
    decided = read_json(
        ROOT / "book/records/recipes/departures.json", dict[str, list[str]], "decisions"
    )
    named = [name for names in decided.values() for name in names]
    assert len(named) == len(set(named))
    stored = {r["id"] for r in read_records(ROOT / "book/records") if "departures" in r}
    assert set(book_runs.id) == {*named, *stored}


def test_what_has_no_mean_or_deviation_is_refused():
    refused("runs must not be empty, got none", accuracy_percent, frame())
    twice = frame(record(0.9), record(0.8))
    refused("seeds, got seed 0 twice: run-0.9-0, run-0.8-0", accuracy_percent, twice)
    one = [frame(record(0.5))]
    refused("rows must have one with at least two runs, got none", pooled_deviation, one)


def test_choices_show_every_rate_tried_and_the_one_taken():
    held_out = {"model": "hashed", "n_validation": 5000}
    runs = frame(
        record(0.97, **held_out),
        record(0.96, **held_out, learning_rate=0.5),
        record(0.95, **held_out, learning_rate=0.5, epochs=4),  # shorter: not compared
        record(0.94, model="hashed"),  # judged on test images
    )
    head, _, row = choices_table(runs, "mnist", n_blocks=16).splitlines()
    own = recipe_config("qtlite", "mnist", model="hashed").learning_rate
    assert head == f"| model | {own:g} | 0.5 |"
    assert row == "| `hashed` | **97.00** | 96.00 |"
    assert "hashed" not in choices_table(runs, "mnist", n_blocks=121)
    assert "hashed" not in choices_table(runs, "fashion_mnist", n_blocks=16)
    assert "| `hashed` | 95.00 |" in choices_table(runs, "mnist", n_blocks=16, epochs=4)


def rows_of(model, *accuracies, **changes):
    return [record(a, model=model, seed=seed, **changes) for seed, a in enumerate(accuracies)]


def test_a_lead_pools_both_models_over_all_sizes_of_the_dataset():
    records = rows_of("qt", 0.97, 0.98, 0.99) + rows_of("hashed", 0.95, 0.96)
    records += rows_of("qt", 0.98, 0.98, n_blocks=61) + rows_of("hashed", 0.5, 0.1, n_blocks=121)
    records += rows_of("bits_only", 0.4, 0.9) + rows_of("qt", 0.3, 0.9, dataset="fashion_mnist")
    points, error = lead(frame(*records), "mnist", 16, "qt", "hashed")
    squares = 1.0 + 0.0 + 1.0 + 0.25 + 0.25 + 0.0 + 0.0  # about the three means, in points
    deviation = (squares / (3 - 1 + 2 - 1 + 2 - 1)) ** 0.5
    assert points == pytest.approx(2.5)
    assert error == pytest.approx(deviation * (1 / 3 + 1 / 2) ** 0.5)
    assert lead(frame(*records), "mnist", 121, "qt", "hashed") is None


def test_a_tables_deviation_leaves_out_rows_that_scatter_by_more_than_a_point():
    records = rows_of("qt", 0.970, 0.974) + rows_of("qt", 0.90, 0.95, n_blocks=31)
    records += rows_of("classical", 0.990, 0.991, 0.992) + rows_of("hashed", 0.5, 0.6)
    runs = frame(*records)
    expected = ((2 * 0.2**2 + 2 * 0.1**2) / (1 + 2)) ** 0.5
    assert table_deviation(runs, "mnist") == pytest.approx(expected)
    assert f"one run deviates by {expected:.2f} points" in table("mnist", runs)
    assert table_deviation(frame(record(0.97)), "mnist") is None
