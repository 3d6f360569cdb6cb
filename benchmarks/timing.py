"""How long calls take: one after the other, or in turn where they are compared with each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from itertools import chain
from statistics import median
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)

MIN_REPEATS, MAX_REPEATS = 5, 50
SECONDS = 1.0  # of repeats, if MIN_REPEATS take no longer
SPIN_LIMIT = 10.0  # seconds: repeats end after them
MIN_ROUNDS, MAX_ROUNDS = 12, 100
SECONDS_IN_TURN = 10.0  # of rounds, if MIN_ROUNDS take no longer
BURST = 0.02  # seconds: so long a call goes on before it is another's turn


def measure(call: Callable[[], object]) -> dict[str, Any]:
    """Median and least wall time of a call, seconds; the first one is not counted."""
    first = _time(call)
    times: list[float] = []
    while len(times) < MIN_REPEATS or (sum(times) < SECONDS and len(times) < MAX_REPEATS):
        times.append(_time(call))
        if sum(times) > SPIN_LIMIT:
            break
    return {"first_s": first, **_summary(times)}


def measure_in_turn(calls: dict[Key, Callable[[], object]]) -> dict[Key, dict[str, Any]]:
    """As ``measure`` of each, round after round; and each round's median, for ``quotient``.

    A machine that others use, too, is slower in one second than in the next: times that are to be
    divided by each other are measured in the same seconds. At each turn the first call, which finds
    the caches full of other things, is not counted.
    """
    bursts: dict[Key, list[list[float]]] = {key: [] for key in calls}
    first = {key: _time(call) for key, call in calls.items()}
    start, n_rounds = time.perf_counter(), 0
    while n_rounds < MIN_ROUNDS or (
        time.perf_counter() - start < SECONDS_IN_TURN and n_rounds < MAX_ROUNDS
    ):
        n_rounds += 1
        for key, call in calls.items():
            call()
            burst = [_time(call)]
            while sum(burst) < BURST:
                burst.append(_time(call))
            bursts[key].append(burst)
    return {
        key: {
            "first_s": first[key],
            **_summary(list(chain.from_iterable(bursts[key]))),
            "rounds_s": list(map(median, bursts[key])),
        }
        for key in calls
    }


def quotient(times: dict[str, Any], others: dict[str, Any]) -> float:
    """How many times as long as the other call one took that was measured in turn with it.

    The median over the rounds, in each of which the machine was about as fast for both.
    """
    pairs = zip(times["rounds_s"], others["rounds_s"], strict=True)
    return median(mine / theirs for mine, theirs in pairs)


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _summary(times: list[float]) -> dict[str, Any]:
    return {"median_s": median(times), "min_s": min(times), "repeats": len(times)}
