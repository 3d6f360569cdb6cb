import io
import json
import os
import zipfile
from dataclasses import replace

import pytest
import torch
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.build import build_model
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report.reproducing import run_rows
from qtlite.experiments.train import loop as training
from qtlite.experiments.train.checkpoint import CHECKPOINT, write_checkpoint
from qtlite.experiments.train.loop import augmented, evaluate, train

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TrainConfig(n_train=256, epochs=3, n_blocks=4, batch_size=64)
FINISHED = replace(QUICK, epochs=1)
REFUSED = "checkpoint must be a file that training wrote"


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("model", ["qt", "classical"])
def test_same_seed_same_weights_and_another_seed_others(digits, model):
    config, before = replace(QUICK, model=model), torch.get_rng_state()
    first, again = (train(config, digits, progress=False) for _ in range(2))
    other = train(replace(config, seed=1), digits, progress=False)
    assert torch.equal(torch.get_rng_state(), before)  # a seed is all that matters
    assert same_weights(first.model, again.model)
    assert not same_weights(first.model, other.model)
    assert first.record["test_accuracy"] == again.record["test_accuracy"]


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("qtlite", {}),
        ("qtlite", {"augmentation": "mirror"}),
        ("qtlite", {"optimiser": "full_matrix_adam", "refresh_every": 3}),
        ("literal", {}),
        ("released", {}),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(
    digits, tmp_path, interrupted_after, recipe, changes
):
    config = recipe_config(recipe, n_train=256, epochs=4, n_blocks=4, batch_size=64, **changes)
    whole = train(config, digits, progress=False)

    with interrupted_after(2):
        train(config, digits, tmp_path, progress=False)
    resumed = train(config, digits, tmp_path, progress=False)
    assert same_weights(whole.model, resumed.model)
    assert [e["epoch"] for e in resumed.record["history"]] == [1, 2, 3, 4]
    assert "parts" not in resumed.record  # it went on where it had begun
    for ours, theirs in zip(resumed.record["history"], whole.record["history"], strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_run_that_goes_on_elsewhere_says_so(digits, tmp_path, monkeypatch, interrupted_after):
    here = training.environment
    with interrupted_after(1):
        train(QUICK, digits, tmp_path, progress=False)
    monkeypatch.setattr(training, "environment", lambda _: {**here(), "commit": "0123abc"})
    record = train(QUICK, digits, tmp_path, progress=False).record
    first, second = record["parts"]
    assert (first["epochs"], second["epochs"]) == (1, QUICK.epochs - 1)
    assert second["commit"] == record["commit"] == "0123abc" != first["commit"]
    assert first["hardware"] == record["hardware"]
    # asked again, by another commit, it is done
    monkeypatch.setattr(training, "environment", lambda _: {**here(), "commit": "4567def"})
    again = train(QUICK, digits, tmp_path, progress=False).record
    assert (again["commit"], len(again["parts"])) == ("0123abc", 2)
    _, (row,) = run_rows([record])
    assert row[-1].endswith("; then 0123abc")


def test_record_says_what_the_run_was(digits):
    run = train(QUICK, digits, progress=False)
    record = json.loads(json.dumps(run.record))
    loss, accuracy = evaluate(run.classical, digits.test_images, digits.test_labels, QUICK)
    assert record["test_accuracy"] == accuracy == record["history"][-1]["test_accuracy"]
    assert record["test_loss"] == pytest.approx(loss)
    assert (record["dataset"], record["model"], record["recipe"]) == ("digits", "qt", "qtlite")
    assert (record["n_blocks"], record["n_qubits"], record["seed"]) == (4, 13, 0)
    assert (record["n_trainable"], record["n_weights"]) == (249 + 13 * 4, 6690)
    assert (record["n_train"], record["n_test"], record["evaluated_on"]) == (256, 297, "test")
    assert TrainConfig.from_dict(record["config"]) == QUICK
    assert record["versions"]["torch"] == torch.__version__
    assert record["hardware"]["n_threads"] == 1
    assert record["wall_seconds"] > 0
    assert len(record["history"]) == 3


def test_validation_images_are_the_last_training_images(digits):
    config = replace(QUICK, n_train=None, n_validation=300, epochs=1)
    run = train(config, digits, progress=False)
    held_out = digits.train_images[-300:], digits.train_labels[-300:]
    assert run.record["evaluated_on"] == "validation"
    assert (run.record["n_train"], run.record["n_test"]) == (1200, 300)
    assert run.record["test_accuracy"] == evaluate(run.classical, *held_out, config)[1]


def test_evaluation_over_batches_is_the_mean_over_images(digits):
    model = build_model(replace(QUICK, model="classical")).eval()
    images, labels = digits.train_images[:1200], digits.train_labels[:1200]
    loss, accuracy = evaluate(model, images, labels, QUICK)
    logits = model((images.float() / 255 - QUICK.pixel_mean) / QUICK.pixel_std)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == labels).double().mean().item()


def test_it_learns(digits):
    config = TrainConfig(epochs=12, n_blocks=8, batch_size=64, learning_rate=2e-2)
    assert train(config, digits, progress=False).record["test_accuracy"] > 0.7


def test_what_does_not_go_with_the_dataset(digits):
    text = "dataset must be 'mnist' as in config, got 'digits'"
    refused(text, train, TrainConfig(dataset="mnist"), digits)
    refused("n_train must be at most 1500, got 1501", train, replace(QUICK, n_train=1501), digits)
    if not torch.cuda.is_available():
        text = "device must be 'cpu' where .*, got 'cuda'"
        refused(text, train, QUICK, digits, device="cuda")


def test_mirrored_images_are_half_of_them_and_others_in_another_epoch(digits):
    images, config = digits.train_images, replace(QUICK, augmentation="mirror")
    mirrored = []
    for epoch in (0, 1):
        shown = augmented(images, config, epoch)
        as_they_are = (shown == images).flatten(1).all(dim=1)
        reflected = (shown == images.flip(3)).flatten(1).all(dim=1)
        assert (as_they_are | reflected).all()
        assert 0.4 < reflected.float().mean() < 0.6
        mirrored.append(reflected)
    assert not torch.equal(*mirrored)
    assert torch.equal(augmented(images, config, 1), shown)
    assert augmented(images, QUICK, 0) is images


@pytest.mark.parametrize(
    "changes",
    [{"model": "classical"}, {"optimiser": "full_matrix_adam", "normalisation": "none"}],
)
def test_loss_that_is_not_finite_stops_the_run(digits, tmp_path, changes):
    config = replace(QUICK, learning_rate=1e30, refresh_every=2, **changes)
    with pytest.raises(ValueError, match="(loss|weights) must be finite, got .* in epoch .* lower"):
        train(config, digits, tmp_path, progress=False)


@pytest.mark.parametrize("model", ["classical", "qt"])
def test_a_last_step_that_is_not_finite_leaves_the_epoch_before(digits, tmp_path, model):
    """The loss of each step is finite, since it is that before the step."""
    config = replace(QUICK, model=model, n_train=64, schedule="constant")
    train(replace(config, epochs=1), digits, tmp_path, progress=False)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    content["config"]["epochs"] = 2
    content["optimiser"]["param_groups"][0]["lr"] = 1e308
    torch.save(content, tmp_path / CHECKPOINT)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match="(loss|weights) must be finite, got .* in epoch 2: lower"):
        train(replace(config, epochs=2), digits, tmp_path, progress=False)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_weights_must_be_finite_even_if_no_loss_shows_it(digits, tmp_path, monkeypatch):
    """A bias of minus infinity: its class is never predicted, and here it is never right."""
    no_nines = replace(
        digits,
        train_labels=digits.train_labels.clamp(max=8),
        test_labels=digits.test_labels.clamp(max=8),
    )
    config = replace(QUICK, model="classical", n_train=64, schedule="constant")
    model = build_model(config)
    with torch.no_grad():
        list(model.parameters())[-1][9] = -torch.inf
    monkeypatch.setattr(training, "build_model", lambda _: model)
    with pytest.raises(ValueError, match=r"weights must be finite, got 1 others in epoch 1: lower"):
        train(config, no_nines, tmp_path, progress=False)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    """The bytes of a finished run's checkpoint."""
    folder = tmp_path_factory.mktemp("finished")
    train(FINISHED, digits, folder, progress=False)
    return (folder / CHECKPOINT).read_bytes()


def one_bit(content):
    """One bit of a tensor's numbers is another."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        numbers = archive.read(next(n for n in archive.namelist() if n.endswith("data/0")))
    place = content.index(numbers) + 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_damaged_checkpoint_is_refused(digits, tmp_path, checkpoint):
    path = tmp_path / CHECKPOINT
    hidden = one_bit(checkpoint) + checkpoint  # PyTorch would read the first, zipfile the second
    half = checkpoint[: len(checkpoint) // 2]
    for damaged in (half, b"hello", b"", one_bit(checkpoint), hidden):
        path.write_bytes(damaged)
        refused(f"{REFUSED}, got .*", train, FINISHED, digits, tmp_path, progress=False)
    torch.save([1, 2], path)
    refused(f"{REFUSED}, got .*", train, FINISHED, digits, tmp_path, progress=False)
    path.write_bytes(checkpoint)
    text = r"checkpoint must be of the config .* another \['seed'\]"
    refused(text, train, replace(FINISHED, seed=9), digits, tmp_path, progress=False)


def test_checkpoint_with_code_in_it_is_refused_unrun(digits, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"config": Attack()}, tmp_path / CHECKPOINT)
    refused(REFUSED, train, QUICK, digits, tmp_path, progress=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("model"), "model"),
        (lambda c: c.update(history={}), "history: Expected `array`"),
        (lambda c: c.update(parts=[{"epochs": "one"}]), "TypeError"),
        (lambda c: c.update(parts=[]), "history must have one entry for each epoch"),
        (lambda c: c["history"].append(c["history"][0]), "history must have one entry for each"),
        (lambda c: c["history"][0].update(test_loss="low"), "Expected `int | float`, got `str`"),
        (lambda c: c["model"].popitem(), "Missing key"),
        (lambda c: c["model"].pop("normalise._extra_state"), r"Missing key.*extra_state"),
        (lambda c: c["model"].update(more=torch.ones(1)), "Unexpected key"),
        (lambda c: c["model"]["qnn.angles"].fill_(torch.nan), "model must have finite parameters"),
        (lambda c: c["history"][0].pop("test_loss"), "missing required field `test_loss`"),
        (lambda c: c["history"][0].update(test_accuracy=torch.nan), r"test_accuracy: Expected"),
        (lambda c: c["optimiser"].update(param_groups=[]), "ValueError"),
        (lambda c: c.update(optimiser={}), "KeyError"),
        (lambda c: c.update(schedule={}), r"schedule must be .* \['last_epoch'"),
        (lambda c: c["schedule"].update(total_steps="all"), r"another \['total_steps'\]"),
    ],
)
def test_checkpoint_of_other_content_is_refused_in_one_line(
    digits, tmp_path, checkpoint, change, reason
):
    path, content = tmp_path / CHECKPOINT, torch.load(io.BytesIO(checkpoint), weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"{REFUSED}.*{reason}") as error:
        train(FINISHED, digits, tmp_path, progress=False)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_numbers_next_to_zero_are_zero_while_training_and_only_then(digits, tmp_path, monkeypatch):
    seen = []

    def spy(*arguments):
        seen.append((torch.tensor([1e-40]) * 1).item())
        write_checkpoint(*arguments)

    monkeypatch.setattr(training, "write_checkpoint", spy)
    train(QUICK, digits, tmp_path, progress=False)
    assert set(seen) == {0.0}
    assert (torch.tensor([1e-40]) * 1).item() > 0
    torch.set_flush_denormal(True)  # a caller's own choice stays
    try:
        train(QUICK, digits, progress=False)
        assert (torch.tensor([1e-40]) * 1).item() == 0
    finally:
        torch.set_flush_denormal(False)
