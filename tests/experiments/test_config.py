import json
from dataclasses import fields, replace

import pytest
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.recipes import RECIPES, recipe_config


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", CATALOGUE)
def test_every_recipe_goes_through_json_unchanged(recipe, dataset):
    config, entry = recipe_config(recipe, dataset), CATALOGUE[dataset]
    if recipe == "qtlite":
        assert (config.pixel_mean, config.pixel_std) == (entry.pixel_mean, entry.pixel_std)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_literal_is_what_section_iii_says():
    mnist = recipe_config("literal", "mnist")
    assert (mnist.learning_rate, mnist.batch_size, mnist.epochs) == (1e-4, 128, 50)
    assert (mnist.feature, mnist.bits, mnist.activation) == ("raw", "zero_one", "first")
    assert mnist.hidden == (4, 20, 4)
    assert recipe_config("literal", "mnist", epochs=3, relu=True).epochs == 3  # changes win
    cifar = recipe_config("literal", "cifar10")
    assert (cifar.learning_rate, cifar.batch_size, cifar.epochs) == (1e-4, 1000, 1000)
    assert cifar.hidden == (40, 200, 40)


def test_released_is_what_the_notebooks_do():
    config = recipe_config("released", "mnist")
    assert (config.feature, config.bits, config.activation) == ("released", "minus_plus", "none")
    assert config.center_feature
    assert config.center_output
    assert (config.weight_decay, config.adam_eps, config.schedule) == (1e-5, 1e-6, "plateau")
    assert not config.relu


def test_every_field_explains_itself():
    assert all(option.metadata["help"] for option in fields(TrainConfig))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", "svhn", "dataset must be one of .*, got 'svhn'"),
        ("model", "cnn", "model must be one of .*, got 'cnn'"),
        ("recipe", "mine", "recipe must be one of .*, got 'mine'"),
        ("schedule", "cosine", "schedule must be one of .*, got 'cosine'"),
        ("feature", "log", "feature must be one of .*, got 'log'"),
        ("bits", "gray", "bits must be one of .*, got 'gray'"),
        ("n_blocks", 0, "n_blocks must be between 1 and 100000, got 0"),
        ("epochs", 0, "epochs must be between 1 and 1000000000, got 0"),
        ("batch_size", -1, "batch_size must be between 1 and 1000000000, got -1"),
        ("learning_rate", 0.0, r"learning_rate must be between 1e-30 and 1e\+30, got 0.0"),
        ("learning_rate", float("nan"), r"learning_rate must be between 1e-30 and 1e\+30, got nan"),
        ("pixel_std", 0.0, r"pixel_std must be between 1e-30 and 1e\+30, got 0.0"),
        ("n_train", 0, "n_train must be between 1 and 1000000000, got 0"),
        ("n_train", 1.5, "n_train must be of type int, got 1.5"),
        ("relu", "no", "relu must be of type bool, got 'no'"),
        ("epochs", True, "epochs must be of type int, got True"),
        ("hidden", [4, 20, 4], r"hidden must be of type tuple, got \[4, 20, 4\]"),
        ("hidden", (4, 0), r"hidden must hold whole numbers between 1 and 10000, got \(4, 0\)"),
        ("angle_range", float("nan"), r"angle_range must be between 0 and 1e\+30, got nan"),
        ("weight_decay", -1.0, r"weight_decay must be between 0 and 1e\+30, got -1.0"),
        ("pixel_mean", float("inf"), r"pixel_mean must be between -1e\+30 and 1e\+30, got inf"),
        ("n_validation", -5, "n_validation must be between 0 and 1000000000, got -5"),
        ("n_blocks", 10**8, "n_blocks must be between 1 and 100000, got 100000000"),
        ("seed", 2**64, "seed must be between -1000000000000 and 1000000000000, got 18446744073"),
        ("weight_gain", 1e-300, r"weight_gain must be between 1e-06 and 1000000.0, got 1e-300"),
        ("weight_gain", float("inf"), "weight_gain must be between 1e-06 and 1000000.0, got inf"),
        ("weight_gain", float("nan"), "weight_gain must be between 1e-06 and 1000000.0, got nan"),
        ("adam_eps", 1e-300, r"adam_eps must be between 1e-30 and 1e\+30, got 1e-300"),
        ("hidden", 5, "hidden must be of type tuple, got 5"),
        ("hidden", (4, 2.5), r"hidden must hold whole numbers between 1 and 10000, got \(4, 2.5\)"),
        ("optimiser", "sgd", "optimiser must be one of .*, got 'sgd'"),
        ("refresh_every", 0, "refresh_every must be between 1 and 1000000000, got 0"),
    ],
)
def test_bad_values(name, value, message):
    refused(message, replace, TrainConfig(), **{name: value})


def test_unknown_recipe_and_field_and_what_does_not_go_together():
    refused("recipe must be one of .*, got 'best'", recipe_config, "best")
    refused(r"fields of TrainConfig only, got \['speed'\]", TrainConfig.from_dict, {"speed": 1})
    refused(r"config must be a dictionary, got \['speed'\]", TrainConfig.from_dict, ["speed"])
    message = "weight_decay must be 0 with full_matrix_adam, got 0.1"
    refused(message, TrainConfig, optimiser="full_matrix_adam", weight_decay=0.1)


def test_full_matrix_adam_where_there_are_few_parameters():
    chosen = {n: recipe_config("qtlite", "mnist", n_blocks=n).optimiser for n in (16, 31, 46, 121)}
    assert chosen == {16: "full_matrix_adam", 31: "full_matrix_adam", 46: "adam", 121: "adam"}
    assert recipe_config("qtlite", "mnist", model="classical").optimiser == "adam"
    assert recipe_config("literal", "mnist").optimiser == "adam"


def test_records_from_before_there_was_a_choice_are_adams():
    old = TrainConfig(learning_rate=0.015).to_dict()
    del old["optimiser"], old["refresh_every"]
    assert TrainConfig.from_dict(old).optimiser == "adam"
