"""A student's questions (tests/book/questions.yml), put to the built book: page, words, search."""

import re
from pathlib import Path

import pytest
import yaml

QUESTIONS = yaml.safe_load((Path(__file__).parents[1] / "book/questions.yml").read_text("utf-8"))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"][:40])
def test_the_page_has_the_answer(soup, asked):
    text = " ".join(soup(asked["page"]).find("article").get_text().split())
    assert [words for words in asked["words"] if not re.search(words, text)] == []


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"][:40])
def test_search_leads_to_the_page(page, site, asked):
    page.goto(f"{site}/search.html?q={asked['search'].replace(' ', '+')}")
    page.wait_for_selector("ul.search li a")
    found = page.eval_on_selector_all("ul.search li a", "links => links.map(a => a.pathname)")
    assert f"/{asked['page']}.html" in list(dict.fromkeys(found))[:5]
