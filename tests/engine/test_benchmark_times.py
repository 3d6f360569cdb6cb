from benchmarks import simulators, timing
from benchmarks.engines import Engine


def test_times_of_more_blocks_lie_on_the_line_of_two_measured_numbers(monkeypatch):
    # a call that costs 3 s, and 0.5 s a block
    monkeypatch.setattr(
        simulators,
        "measure",
        lambda n_blocks: {"median_s": 3 + 0.5 * n_blocks, "min_s": 2 + 0.5 * n_blocks},
    )
    engine = Engine("slow", lambda n_qubits, n_blocks: n_blocks, threads=(1,), largest=2**22)
    row = simulators.measure_engine(engine, 19, 323)
    assert row["n_blocks_measured"] == [4, 8]
    assert (row["median_s"], row["min_s"]) == (3 + 0.5 * 323, 2 + 0.5 * 323)
    row = simulators.measure_engine(engine, 13, 16)
    assert row["n_blocks_measured"] == [16]
    assert row["median_s"] == 11


def test_calls_in_turn_are_measured_in_every_round(monkeypatch):
    monkeypatch.setattr(timing, "BURST", 0)
    monkeypatch.setattr(timing, "SECONDS_IN_TURN", 0)
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    found = timing.measure_in_turn(calls)
    # one first call, then in each round one that is not counted and one that is
    assert called == ["a", "b"] + ["a", "a", "b", "b"] * timing.MIN_ROUNDS
    for row in found.values():
        assert row["repeats"] == len(row["rounds_s"]) == timing.MIN_ROUNDS


def test_short_calls_have_more_rounds(monkeypatch):
    monkeypatch.setattr(timing, "BURST", 0)
    monkeypatch.setattr(timing, "SECONDS_IN_TURN", 60)
    found = timing.measure_in_turn({"short": lambda: None})
    assert len(found["short"]["rounds_s"]) == timing.MAX_ROUNDS


def test_quotients_are_of_the_same_round():
    slow = [1, 5, 2, 9, 1]  # how slow the machine is
    times = {"rounds_s": [3 * each for each in slow]}
    others = {"rounds_s": [*slow[:4], 100]}
    assert timing.quotient(times, others) == 3
