from pathlib import Path

import pytest

from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.records import read_records
from qtlite.experiments.report.tables import (
    MARKS,
    accuracy_percent,
    against_controls,
    choices_table,
    n_steps,
    results,
    table,
    with_more_time,
    write_between_marks,
    write_tables,
)

ROOT = Path(__file__).parents[2]


def record(accuracy, recipe="qtlite", dataset="mnist", **changes):
    config = recipe_config(recipe, dataset, **changes)
    return {
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


def line(text, name):
    return next(row for row in text.splitlines() if row.startswith(f"| {name} "))


def test_mean_deviation_and_number_of_seeds_stand_in_the_row():
    text = table("mnist", [record(0.96, seed=0), record(0.97, seed=1), record(0.98, seed=2)])
    assert line(text, "QT-16") == "| QT-16 | 457 | 81.08 | 97.00 ± 1.00 (3) |"
    assert line(text, "QT-31") == "| QT-31 | 652 | 84.69 | – |"


def test_heads_say_how_many_steps_a_recipe_takes():
    # 60,000 images by 128 make 469 batches, the last one smaller; 50,000 by 1,000 make 50
    records = [record(0.9, recipe=recipe) for recipe in ("released", "literal", "thorough")]
    head = table("mnist", records).splitlines()[0]
    assert head.endswith(
        "| paper | qtlite, 9,380 steps | thorough, 23,500 steps "
        "| literal, 23,450 steps | released, 23,450 steps |"
    )
    assert table("cifar10", records).splitlines()[0].endswith("| paper | qtlite, 1,000 steps |")
    assert n_steps("cifar10", "thorough") == 5000


def test_more_time_is_told_of_one_depth_whatever_else_is_recorded():
    records = [
        record(0.99, recipe="thorough", model="qt", n_blocks=121),
        record(0.98, recipe="thorough", model="qt", n_blocks=16),
    ]
    usual = [
        record(0.97, recipe="thorough", model="classical"),
        record(0.96, recipe="qtlite", model="classical"),
    ]
    assert with_more_time(records + usual[:1], "mnist") == ""
    text = with_more_time(records + usual, "mnist")
    assert "QT-121 has 99.00 % (1 seed)" in text
    assert "as usual 97.00 % (1 seed)" in text
    assert "with `qtlite` the latter has 96.00 % (1 seed), and the better" in text
    assert "for it here. No control has been given that recipe yet." in text
    records.append(record(0.995, model="classical", weight_decay=WEIGHT_DECAY["qtlite"]["mnist"]))
    text = with_more_time(records + usual, "mnist")
    assert "weight decay 99.50 % (1 seed) with `qtlite`. That is what to compare with. No" in text


def test_weight_decay_with_more_time_has_a_row_and_a_clause():
    short, long = (WEIGHT_DECAY[recipe]["cifar10"] for recipe in ("qtlite", "thorough"))
    usual = {"dataset": "cifar10", "model": "classical"}
    records = [
        record(0.7, **usual),
        record(0.71, recipe="thorough", **usual),
        record(0.72, weight_decay=short, **usual),
        record(0.73, recipe="thorough", weight_decay=long, **usual),
        record(0.74, dataset="cifar10", recipe="thorough", n_blocks=323),
    ]
    text = table("cifar10", records)
    assert f"| classical CNN, weight decay {short:g} | 285,226 |  | 72.00 (1) |  |" in text
    assert f"| classical CNN, weight decay {long:g} | 285,226 |  |  | 73.00 (1) |" in text
    clause = "72.00 % (1 seed) with `qtlite` and 73.00 % (1 seed) with `thorough`. That is"
    assert clause in with_more_time(records, "cifar10")


def test_more_time_is_told_of_controls_too():
    records = [
        record(0.99, recipe="thorough", model="qt", n_blocks=121),
        record(0.97, recipe="thorough", model="classical"),
        record(0.96, recipe="qtlite", model="classical"),
        record(0.98, recipe="thorough", model="hashed", n_blocks=121),
        record(0.96, recipe="thorough", model="hashed", n_blocks=61),
    ]
    text = with_more_time(records, "mnist")
    assert text.endswith("as many trained parameters: `hashed` 98.00 % (1 seed).")
    assert f"- MNIST: {text}\n" in results(records)


def test_one_seed_says_so():
    assert "| 98.00 (1) |" in line(table("mnist", [record(0.98, n_blocks=121)]), "QT-121")


def test_classical_row():
    text = table("mnist", [record(0.99, model="classical")])
    assert line(text, "classical CNN") == "| classical CNN | 6,690 | 98.45 | 99.00 (1) |"


def test_models_without_a_number_in_the_paper_have_rows_too():
    decay = WEIGHT_DECAY["qtlite"]["mnist"]
    records = [
        record(0.98, model="classical", relu=False),
        record(0.97, model="qcml"),
        record(0.96, recipe="literal"),
        record(0.99, model="classical", weight_decay=decay),
    ]
    text = table("mnist", records)
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
    assert table("mnist", [record(0.5, **changes)]) == table("mnist", [])


def test_other_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset must be one of .*, got 'digits'"):
        table("digits", [])


def test_same_records_same_bytes(tmp_path):
    records = [record(0.96, seed=1), record(0.97, seed=0)]
    write_tables(records, tmp_path / "a")
    write_tables(reversed(records), tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_results_stand_between_the_readmes_comments_and_nowhere_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    write_between_marks(results([record(0.96)]), path)
    lines = path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "| Table I, QT-16 | 457 | 81.08 | 96.00 (1) | 2.0 |" in lines
    path.write_text("no comments")
    with pytest.raises(ValueError, match="path must hold the comments .* got .*README.md without"):
        write_between_marks("", path)


@pytest.mark.parametrize("name", ["README.md", *(f"book/tables/{d}.md" for d in TABLES)])
def test_committed_tables_are_those_of_the_committed_records(name, tmp_path):
    records = read_records(ROOT / "book/records")
    committed = (ROOT / name).read_bytes()
    copy = tmp_path / name
    if name == "README.md":
        copy.write_bytes(committed)
        write_between_marks(results(records), copy)
    else:
        write_tables(records, copy.parent)
    assert copy.read_bytes() == committed, "run: qtlite tables --readme README.md"


def test_accuracy_of_no_records_or_of_one_seed_twice_is_refused():
    with pytest.raises(ValueError, match="records must not be empty, got none"):
        accuracy_percent([])
    with pytest.raises(ValueError, match="records must be of different seeds, got seed 0 twice"):
        accuracy_percent([record(0.9), record(0.8)])


def test_controls_stand_under_the_results_by_number_of_parameters():
    text = results([record(0.96, model="hashed"), record(0.97), record(0.98, n_blocks=121)])
    assert "| model | MNIST, 457 | MNIST, 1,042 | MNIST, 1,822 | Fashion, 457 |" in text
    assert "| `hashed` | 96.00 (1) | – | – | – | – |" in text
    assert "| `qt` | 97.00 (1) | – | 98.00 (1) | – | – |" in text


def test_choices_show_every_rate_tried_and_the_one_taken():
    held_out = {"model": "hashed", "n_validation": 5000}
    records = [
        record(0.97, **held_out),
        record(0.96, **held_out, learning_rate=0.5),
        record(0.95, **held_out, learning_rate=0.5, epochs=4),  # shorter: not compared
        record(0.94, model="hashed"),  # judged on test images
    ]
    head, _, row = choices_table(records, "mnist", n_blocks=16).splitlines()
    own = recipe_config("qtlite", "mnist", model="hashed").learning_rate
    assert head == f"| model | {own:g} | 0.5 |"
    assert row == "| `hashed` | **97.00** | 96.00 |"
    assert "hashed" not in choices_table(records, "mnist", n_blocks=121)
    assert "hashed" not in choices_table(records, "fashion_mnist", n_blocks=16)
    assert "| `hashed` | 95.00 |" in choices_table(records, "mnist", n_blocks=16, epochs=4)


def test_controls_are_above_level_or_below_by_two_standard_errors():
    def rows(model, *accuracies):
        return [record(a, model=model, seed=seed) for seed, a in enumerate(accuracies)]

    records = rows("qt", 0.970, 0.972)  # 97.1 +- 0.1
    records += rows("hashed", 0.974, 0.976) + rows("hypernetwork", 0.980, 0.982)
    records += rows("bits_only", 0.971, 0.973) + rows("small_cnn", 0.900, 0.904)
    records += rows("frozen_noise", 0.99)  # one seed: nothing can be said
    records += rows("no_entanglement", 0.96, 0.1)  # nor here
    assert against_controls(records, "mnist", 16) == (
        ["hypernetwork", "hashed"],
        ["bits_only"],
        ["small_cnn"],
    )
    assert against_controls(records, "mnist", 121) == ([], [], [])
