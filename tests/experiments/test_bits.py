"""Entropy coding, the tiny file and the certificate."""

from dataclasses import replace

import numpy as np
import pytest
from refusals import refused
from scipy import optimize, special, stats

from qtlite.experiments.bits.certificate import binomial_bound, certificate, kl
from qtlite.experiments.bits.entropy_coding import LARGEST, best_widths, decode, encode, frequencies
from qtlite.experiments.bits.tiny_file import (
    TinyNetwork,
    checksum,
    file_length,
    from_bytes,
    layer_sizes,
    read_tiny,
    to_bytes,
)
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.seeded import trained_integers
from qtlite.experiments.models.tiny_model import model_of, tiny_config, tiny_network
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.train.loop import train


def network(**changes):
    """A network of random integers, as long as a trained one."""
    random = np.random.default_rng(0)
    sizes = [13] * 16 + layer_sizes("mnist", (4, 8, 4))
    groups = [tuple(random.normal(0, 6, size).round().astype(int).tolist()) for size in sizes]
    grid = (12, 4, 15, 50, 100, 150)
    plain = TinyNetwork(
        "mnist", "ry_linear_cnot", (4, 8, 4), 7, grid, tuple(groups[:16]), tuple(groups[16:])
    )
    return replace(plain, **changes)


# --- entropy coding --------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.5, 1, 3, 10, 60])
def test_integers_come_back_from_about_as_many_bits_as_they_have_entropy(deviation):
    random = np.random.default_rng(1)
    integers = random.normal(0, deviation, 2000).round().clip(-LARGEST, LARGEST).astype(int)
    width, _ = best_widths([integers])
    number = encode([integers.tolist()], [width])
    assert decode(number, [2000], [width]) == [integers.tolist()]
    edges = stats.norm(0, deviation).cdf(np.arange(-400, 401)[:, None] + [-0.5, 0.5])
    shares = np.diff(edges).ravel()
    entropy = -2000 * (shares * np.log2(np.maximum(shares, 1e-300))).sum()
    assert number.bit_length() == pytest.approx(entropy, rel=0.05)


def test_frequencies_are_those_of_a_normal_distribution():
    k = np.arange(-LARGEST, LARGEST + 1)
    for width in (16, 47, 80):
        expected = (1 - 2 ** (-width / 8)) ** (k.astype(float) ** 2)
        found = np.array(frequencies(width), dtype=float) / 2**32
        assert np.abs(found - np.maximum(expected, 2.0**-16)).max() < 1e-6


def test_widths_between_the_first_and_the_last_block_follow_the_integers():
    random = np.random.default_rng(3)
    blocks = [random.normal(0, spread, 200).round().astype(int) for spread in (8, 6.5, 4.5, 3)]
    first, last = best_widths(blocks)
    assert first == pytest.approx(best_widths(blocks[:1])[0], abs=4)
    assert last == pytest.approx(best_widths(blocks[-1:])[0], abs=4)
    assert best_widths(blocks[::-1]) == pytest.approx((last, first), abs=1)


def test_what_can_be_coded():
    assert decode(encode([[-LARGEST, LARGEST]], [0]), [2], [0]) == [[-LARGEST, LARGEST]]
    refused("integers must be at most 255 in size, got 256", encode, [[256]], [0])
    number = encode([[1, 2, 3]], [30])
    refused("number must code 2 integers, got another", decode, number, [2], [30])


# --- the file --------------------------------------------------------------------------------


def test_a_file_gives_the_network_again_and_is_as_long_as_its_integers():
    assert len(to_bytes(network())) == file_length((4, 8, 4), network().blocks, network().layers)
    grid = (255, 1, 1, 255, 7, 8)
    for changes in ({}, {"seed": 65535}, {"grid": grid}, {"dataset": "fashion_mnist"}):
        assert from_bytes(to_bytes(network(**changes))) == network(**changes)


def test_every_flipped_bit_and_every_other_length_is_refused():
    content = to_bytes(network())
    flipped = []
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(changed))
    for damaged in (*flipped, *(content[:n] for n in range(len(content))), content + b"\0"):
        refused(r"file must .*, got", from_bytes, damaged)


def sealed(body):
    """Bytes with the right checksum before them, whatever they are."""
    return b"QT\x02" + checksum(body) + body


def test_a_sealed_file_of_nonsense_is_refused_with_one_line(tmp_path):
    body = to_bytes(network())[5:]
    random = np.random.default_rng(2)
    for damaged in (
        body[:9],
        b"\xf0" + body[1:],  # a dataset that no reader knows
        body[:1] + b"\0" + body[2:],  # no blocks
        body[:5] + b"\0" + body[6:],  # no neurons
        body[:8] + b"\0" + body[9:],  # a step of 0
        body[:-1],
        *(random.bytes(200) for _ in range(50)),
    ):
        path = tmp_path / "a.qt"
        path.write_bytes(sealed(damaged))
        refused(r"file must be one that qtlite wrote, got .*a\.qt", read_tiny, path)


def test_foreign_and_later_files_are_refused(tmp_path):
    path = tmp_path / "a.qt"
    content = to_bytes(network())
    for wrong, text in (
        (b"\x89PNG" + bytes(100), "file must begin with b'QT'"),
        (b"", "file must begin with b'QT'"),
        (content + bytes(20_000), "file must begin with b'QT' and be a tiny file"),
        (content[:2] + b"\x01" + content[3:], "file must have version 2, got 1"),
    ):
        path.write_bytes(wrong)
        refused(text, read_tiny, path)


def test_what_fits_in_no_file_is_refused():
    many = ((0,) * 13,) * 256
    for changes in ({"blocks": many}, {"seed": -1}, {"block": "x"}, {"grid": (1, 256)}):
        refused("network must fit in a tiny file, got", to_bytes, network(**changes))
    refused(r"groups of \[13, 60, 40, 36, 5\] integers", to_bytes, network(blocks=((1, 2),)))
    refused("grid must have 6 steps, got", to_bytes, network(grid=(1, 2, 3)))


# --- training ends on a grid -----------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    config = recipe_config(
        "qtlite", "digits", n_blocks=3, hidden=(3, 3), epochs=5, seed=3, n_train=500,
        grid=(100, 60, 120, 160), rounding_epochs=2, pull=1e-6,
    )  # fmt: skip
    return config, train(config, load_dataset("digits"), progress=False)


def test_a_trained_network_is_whole_steps_from_its_start(run):
    config, trained = run
    start = dict(build_model(config).named_parameters())
    steps = {"qnn.angles": np.array([[100], [80], [60]]), "mapping.layers.0": 120}
    for name, parameter in trained.model.named_parameters():
        step = steps.get(name, steps.get(name.rpartition(".")[0], 160)) / 1024
        places = (parameter - start[name]).detach().numpy() / step
        assert np.abs(places - places.round()).max() < 1e-4
        assert parameter.numel() < 30 or np.abs(places).max() > 0.5  # it has learned


def test_a_file_gives_the_trained_weights_bit_for_bit(run):
    config, trained = run
    content = to_bytes(tiny_network(trained.model, config))
    assert len(content) == trained.record["file_bytes"]
    again = model_of(from_bytes(content)).to_classical().state_dict()
    for name, tensor in trained.classical.state_dict().items():
        assert (again[name] == tensor).all()


def test_an_interrupted_run_ends_with_the_same_integers(run, tmp_path, interrupted_after):
    config, trained = run
    with interrupted_after(4):  # some numbers are rounded, others are not
        train(config, load_dataset("digits"), tmp_path, progress=False)
    again = train(config, load_dataset("digits"), tmp_path, progress=False)
    start = build_model(config)
    expected = trained_integers(trained.model, start, config.grid)
    assert trained_integers(again.model, start, config.grid) == expected


def test_a_model_off_its_grid_is_refused(run):
    config, _ = run
    other = build_model(replace(config, seed=1))
    with pytest.raises(ValueError, match=r"model must have all numbers on the grid, got .*angles"):
        trained_integers(other, build_model(config), config.grid)


def test_a_run_that_no_reader_could_repeat_is_refused(run):
    config, trained = run
    plain = recipe_config("qtlite", "digits", n_blocks=2)
    refused("run must have ended on a grid", tiny_network, trained.model, plain)
    with pytest.raises(ValueError, match="run must follow the recipe qtlite in"):
        tiny_network(trained.model, replace(config, weight_gain=1.0))
    with pytest.raises(ValueError, match="grid must have multiples of 4 in a tiny file"):
        tiny_network(trained.model, replace(config, grid=(100, 60, 121)))
    with pytest.raises(ValueError, match="grid must have three steps or more to be trained"):
        tiny_network(trained.model, replace(config, grid=(42, 64)))
    assert tiny_config(tiny_network(trained.model, config)).hidden == (3, 3)


def test_choices_that_conflict_are_refused():
    steps = "grid must have two steps or more if rounding_epochs is positive"
    grid, adam = {"grid": (1, 2)}, {"optimiser": "full_matrix_adam"}
    refused(steps, TrainConfig, **grid)
    refused(steps, TrainConfig, rounding_epochs=2)
    refused("pull must be 0 without a grid, got 1.0", TrainConfig, pull=1.0)
    refused("grid must be empty unless", TrainConfig, **grid, rounding_epochs=2, optimiser="adam")
    late = "rounding_epochs must be at most 20, got 30"
    refused(late, TrainConfig, **grid, **adam, rounding_epochs=30)


# --- the certificate -------------------------------------------------------------------------


def test_certificate_against_a_root_finder():
    for bits, n_errors, n, delta in [
        (1872, 1884, 60_000, 0.05), (0, 0, 100, 0.01), (40, 30, 60, 0.5), (10**5, 10, 60_000, 0.1),
    ]:  # fmt: skip
        p = n_errors / n
        budget = (bits * np.log(2) + np.log(1 / delta)) / n

        def surplus(q, p=p, budget=budget):
            return special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q) - budget

        expected = optimize.brentq(surplus, max(p, 1e-15), 1 - 1e-15, xtol=1e-15)
        assert certificate(bits, n_errors, n, delta) == pytest.approx(expected, rel=1e-9)
        assert kl(p, expected) == pytest.approx(budget, rel=1e-6)


def test_binomial_bound_against_the_beta_distribution():
    for n_errors, n, delta in [(299, 10_000, 0.05), (0, 10, 0.1), (9, 10, 0.01)]:
        expected = stats.beta.ppf(1 - delta, n_errors + 1, n - n_errors)
        assert binomial_bound(n_errors, n, delta) == pytest.approx(expected, rel=1e-9)


def test_the_certificate_holds_as_often_as_it_says():
    """Sixteen classifiers with known true errors; the one with the fewest mistakes is chosen."""
    n, delta, n_experiments = 200, 0.2, 10_000
    errors = np.linspace(0.30, 0.305, 16)
    random = np.random.default_rng(0)
    mistakes = random.binomial(n, errors, (n_experiments, 16))
    bounds = np.array([certificate(4, k, n, delta) for k in range(n + 1)])
    fails = bounds[mistakes] < errors
    chosen = mistakes.argmin(axis=1)
    n_chosen = fails[np.arange(n_experiments), chosen].sum()
    n_any = fails.any(axis=1).sum()
    # exactly: the chance that some classifier has as few mistakes as break its bound
    last = (bounds[:, None] < errors).sum(axis=0) - 1
    exact = 1 - np.prod(1 - stats.binom.cdf(last, n, errors))
    assert 0.02 < exact < delta
    low, high = stats.binom.interval(0.999, n_experiments, exact)
    assert low <= n_any <= high
    assert n_chosen <= n_any <= delta * n_experiments
    without_bits = np.array([certificate(0, k, n, delta) for k in range(n + 1)])
    assert (without_bits[mistakes] < errors).any(axis=1).mean() > delta  # choosing must be paid for


def test_bad_numbers_are_refused():
    for wrong in (-1, float("nan")):
        refused(f"file_bits must be at least 0, got {wrong}", certificate, wrong, 0, 10, 0.1)
    refused("n_errors must be between 0 and 10, got 11", certificate, 1, 11, 10, 0.1)
    refused("n_images must be at least 1, got 0", certificate, 1, 0, 0, 0.1)
    refused("delta must be between 0 and 1, got 1.0", certificate, 1, 0, 10, 1.0)
