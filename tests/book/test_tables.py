"""The tables and the README, from records made here and from the book's."""

from pathlib import Path

import numpy as np
import pytest

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
from qtlite.experiments.report.comparisons import (
    against_controls,
    lead,
    table_deviation,
    with_weight_decay,
)
from qtlite.experiments.report.readme import README_TABLES, write_readme
from qtlite.experiments.report.tables import (
    choices_table,
    controls_table,
    format_accuracy,
    long_recipe_table,
    n_steps,
    table,
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


def test_mean_deviation_and_number_of_seeds_stand_in_the_row():
    text = table("mnist", frame(*(record(0.96 + 0.01 * seed, seed=seed) for seed in range(3))))
    assert line(text, "QT-16") == "| QT-16 | 457 | 81.08 | 97.00 ± 1.00 (3) |"
    assert line(text, "QT-31") == "| QT-31 | 652 | 84.69 | – |"


def test_heads_say_how_many_steps_a_recipe_takes():
    # 60,000 images by 128 make 469 batches, the last one smaller; 50,000 by 1,000 make 50
    runs = frame(*(record(0.9, recipe=r) for r in ("released", "literal", "thorough")))
    head = table("mnist", runs).splitlines()[0]
    assert head.endswith(
        "| paper | qtlite, 9,380 steps | thorough, 23,500 steps "
        "| literal, 23,450 steps | released, 23,450 steps |"
    )
    assert table("cifar10", runs).splitlines()[0].endswith("| paper | qtlite, 1,000 steps |")
    assert n_steps("cifar10", "thorough") == 5000


def test_the_long_recipe_has_a_row_for_each_model_and_baseline():
    runs = frame(
        record(0.99, recipe="thorough", n_blocks=121),
        record(0.98, recipe="thorough", n_blocks=16),  # not the greatest depth
        record(0.975, recipe="thorough", model="hashed", n_blocks=121),
        record(0.97, recipe="thorough", model="classical"),
        record(0.96, model="classical"),
        record(0.995, model="classical", weight_decay=WEIGHT_DECAY["qtlite"]["mnist"]),
    )
    assert long_recipe_table(runs, ["mnist"]).splitlines()[2:] == [
        "| QT-121 | `thorough` | 99.00 (1) |",
        "| `hashed` | `thorough` | 97.50 (1) |",
        "| classical CNN | `qtlite` | 96.00 (1) |",
        "| classical CNN | `thorough` | 97.00 (1) |",
        "| classical CNN, weight decay | `qtlite` | 99.50 (1) |",
    ]
    assert "| QT-121/QT-323 | `thorough` | 99.00 (1) | – | – |" in long_recipe_table(runs)


def test_weight_decay_has_a_row_for_each_recipe():
    short, long = (WEIGHT_DECAY[recipe]["cifar10"] for recipe in ("qtlite", "thorough"))
    baseline = {"dataset": "cifar10", "model": "classical"}
    runs = frame(
        record(0.7, **baseline),
        record(0.71, recipe="thorough", **baseline),
        record(0.72, weight_decay=short, **baseline),
        record(0.73, recipe="thorough", weight_decay=long, **baseline),
    )
    text = table("cifar10", runs)
    assert f"| classical CNN, weight decay {short:g} | 285,226 |  | 72.00 (1) |  |" in text
    assert f"| classical CNN, weight decay {long:g} | 285,226 |  |  | 73.00 (1) |" in text
    assert with_weight_decay(runs, "mnist").empty
    assert with_weight_decay(runs, "cifar10", "literal").empty


def test_one_seed_says_so():
    assert "| 98.00 (1) |" in line(table("mnist", frame(record(0.98, n_blocks=121))), "QT-121")


def test_classical_row():
    text = table("mnist", frame(record(0.99, model="classical")))
    assert line(text, "classical CNN") == "| classical CNN | 6,690 | 98.45 | 99.00 (1) |"


def test_models_without_a_number_in_the_paper_have_rows_too():
    decay = WEIGHT_DECAY["qtlite"]["mnist"]
    runs = frame(
        record(0.98, model="classical", relu=False),
        record(0.97, model="qcml"),
        record(0.96, recipe="literal"),
        record(0.99, model="classical", weight_decay=decay),
    )
    text = table("mnist", runs)
    assert text.splitlines()[-3:] == [
        f"| classical CNN, weight decay {decay:g} | 6,690 |  | 99.00 (1) |  |",
        "| classical CNN, no ReLU | 6,690 |  | 98.00 (1) |  |",
        "| QCML | 5,002 |  | 97.00 (1) |  |",
    ]
    assert line(text, "classical CNN |") == "| classical CNN | 6,690 | 98.45 | – | – |"


@pytest.mark.parametrize(
    "changes",
    [{"n_validation": 5000}, {"n_train": 1000}, {"learning_rate": 0.5}, {"activation": "none"}],
)
def test_runs_that_depart_from_the_recipe_stay_out(changes):
    assert table("mnist", frame(record(0.5, **changes))) == table("mnist", frame())


def test_other_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset must be one of .*, got 'digits'"):
        table("digits", frame())


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
    with pytest.raises(ValueError, match="path must hold the comments .* got .*README.md without"):
        write_readme(frame(), path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"path must be a text file, got .*README\.md: "):
        write_readme(frame(), path)


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
    """Each sentence beside the numbers that would contradict it."""
    text = " ".join((ROOT / "README.md").read_text().split())

    def mean(**choice):
        return accuracy_percent(select(book_runs, **{"recipe": "qtlite", **choice}))[0]

    assert "Every circuit is above the paper's number for its row." in text
    for dataset, rows in TABLES.items():
        for row in rows[1:]:
            own = {"dataset": dataset, "model": "qt", "n_blocks": row.n_blocks}
            assert mean(**own) > row.test_accuracy

    assert "every control is also above the paper's 81.08 % on MNIST and 65.69 %" in text
    for dataset, paper in (("mnist", 81.08), ("fashion_mnist", 65.69)):
        assert TABLES[dataset][1].test_accuracy == paper
        assert min(mean(dataset=dataset, model=m, n_blocks=16) for m in CONTROLS) > paper

    assert "at least one classical control is level with the circuit or better" in text
    for dataset in ("mnist", "fashion_mnist"):
        for n_blocks in (16, 121):
            above, level, _ = against_controls(book_runs, dataset, n_blocks)
            assert {"hypernetwork", "hashed", "small_cnn", "random_subspace"} & {*above, *level}
    assert "At 1,042 the circuit leads all nine." in text
    assert len(against_controls(book_runs, "mnist", 61)[2]) == len(CONTROLS) == 9

    changes = {"optimiser": "full_matrix_adam", "learning_rate": 0.005}
    changed = with_changes(book_runs, "mnist", model="hypernetwork", n_blocks=61, **changes)
    qt = select(book_runs, dataset="mnist", recipe="qtlite", model="qt", n_blocks=61)
    difference, error = mean_difference(changed, qt)
    assert "once it gets full-matrix Adam (98.67 %" in text
    assert format_accuracy(changed).startswith("98.67")
    assert abs(difference) < 2 * error

    cifar = {"dataset": "cifar10", "model": "hashed"}
    assert "`hashed` is one point behind QT-323 after 100 epochs." in text
    lead = mean(dataset="cifar10", model="qt", recipe="thorough", n_blocks=323)
    assert round(lead - mean(recipe="thorough", n_blocks=323, **cifar)) == 1
    assert "it is 10 points ahead of QT-95 (71.11 %, one seed)" in text
    hashed = select(book_runs, recipe="qtlite", n_blocks=95, **cifar)
    assert format_accuracy(hashed) == "71.11 (1)"
    assert (
        round(mean(n_blocks=95, **cifar) - mean(dataset="cifar10", model="qt", n_blocks=95)) == 10
    )

    assert "The best network of each dataset is the classical CNN with weight decay." in text
    for dataset, rows in TABLES.items():
        decayed = [with_weight_decay(book_runs, dataset, recipe) for recipe in WEIGHT_DECAY]
        best = max(accuracy_percent(found)[0] for found in decayed if len(found))
        follow = book_runs[book_runs.departures.str.len() == 0].query("dataset == @dataset")
        rows_of_tables = follow.groupby(["recipe", "model", "n_blocks"], dropna=False)
        assert best > 100 * rows_of_tables.test_accuracy.mean().max()
        ratio = rows[0].n_trainable / rows[-1].n_trainable
        assert 3.5 < ratio < 12.5
    assert "about 4 to 12 times as many parameters" in text


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


def test_accuracy_of_no_runs_or_of_one_seed_twice_is_refused():
    with pytest.raises(ValueError, match="runs must not be empty, got none"):
        accuracy_percent(frame())
    with pytest.raises(ValueError, match="different seeds, got seed 0 twice: run-0.9-0, run-0.8-0"):
        accuracy_percent(frame(record(0.9), record(0.8)))


def test_controls_stand_by_number_of_parameters():
    runs = frame(record(0.96, model="hashed"), record(0.97), record(0.98, n_blocks=121))
    text = controls_table(runs)
    assert "| model | MNIST, 457 | MNIST, 1,042 | MNIST, 1,822 | Fashion, 457 |" in text
    assert "| `hashed` | 96.00 (1) | – | – | – | – |" in text
    assert "| `qt` | 97.00 (1) | – | 98.00 (1) | – | – |" in text


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


def test_controls_are_above_level_or_below_by_two_standard_errors():
    records = rows_of("qt", 0.970, 0.972)  # 97.1 +- 0.1
    records += rows_of("hashed", 0.974, 0.976) + rows_of("hypernetwork", 0.980, 0.982)
    records += rows_of("bits_only", 0.971, 0.973) + rows_of("small_cnn", 0.900, 0.904)
    records += rows_of("frozen_noise", 0.99)  # one seed, with the circuit's deviation
    records += rows_of("no_entanglement", 0.96, 0.1)  # one fell to guessing
    runs = frame(*records)
    assert against_controls(runs, "mnist", 16) == (
        ["frozen_noise", "hypernetwork", "hashed"],
        ["bits_only"],
        ["small_cnn"],
    )
    assert against_controls(runs, "mnist", 121) == ([], [], [])


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


def test_deviations_are_pooled_over_rows():
    """The root of the residual mean square of a model with one mean a row."""
    rows = [[0.97, 0.98, 0.96], [0.90, 0.93], [0.5]]
    runs = [frame(*(record(a, seed=s) for s, a in enumerate(row))) for row in rows]
    within = [100 * (a - np.mean(row)) for row in rows for a in row]
    assert pooled_deviation(runs) == pytest.approx((np.square(within).sum() / (6 - 3)) ** 0.5)

    difference, error = mean_difference(runs[0], runs[2], 0.3)
    assert difference == pytest.approx(47)
    assert error == pytest.approx(0.3 * (1 / 3 + 1) ** 0.5)
    with pytest.raises(ValueError, match="rows must have one with at least two runs, got none"):
        pooled_deviation([runs[2]])
