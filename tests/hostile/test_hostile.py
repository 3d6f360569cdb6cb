"""A tenth of the malformed inputs, and 500 damaged files. `make prove` runs all of them."""

from collections import Counter

import pytest
from files import make_good_files
from fuzz import BAD, damages
from run import ask, read_cases


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    make_good_files(folder)
    return folder


def test_malformed_inputs_are_refused_in_one_clear_line(good):
    cases = read_cases()[::10]
    answers = ask(cases, good)
    for case, (category, text) in zip(cases, answers, strict=True):
        if category != "clear":
            print(f"{category}: {case.text}\n  {text[:200]}")
    counts = Counter(category for category, _ in answers)
    assert counts["clear"] >= 0.98 * len(cases)
    assert counts.keys().isdisjoint({"silent", "hung", "code ran", "broken"})


def test_damaged_files_are_refused_or_give_the_same_numbers(good):
    jobs = damages(500, seed=0)
    answers = ask(jobs, good)
    bad = [(job, *answer) for job, answer in zip(jobs, answers, strict=True) if answer[0] in BAD]
    assert bad == []
    counts = Counter(category for category, _ in answers)
    assert counts["refused"] > 300  # most damage is seen


def test_the_list_has_a_thousand_different_cases():
    texts = [case.text for case in read_cases()]
    assert len(texts) == len(set(texts)) > 1000
