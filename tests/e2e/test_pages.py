"""Every page of the built book: opened at desktop and at phone width; its links followed."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = re.findall(r"(?:root|file): (book/\w+)", (ROOT / "_toc.yml").read_text())

# Each figure drawn small; one colour throughout means that nothing is on it.
BLANK_FIGURES = """async () => {
  const article = document.querySelector("article");
  const blank = [];
  for (const image of article.querySelectorAll("img")) {
    image.loading = "eager";
    await image.decode().catch(() => blank.push("not loaded: " + image.src));
  }
  for (const figure of article.querySelectorAll("img, canvas")) {
    if (figure.tagName === "IMG" && !figure.naturalWidth) continue;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const pen = canvas.getContext("2d");
    pen.drawImage(figure, 0, 0, 64, 64);
    const colours = new Set(new Uint32Array(pen.getImageData(0, 0, 64, 64).data.buffer));
    if (colours.size < 2) blank.push(figure.src || figure.id);
  }
  for (const figure of article.querySelectorAll("svg")) {
    if (figure.closest("mjx-container") || !figure.checkVisibility()) continue;
    const box = figure.getBBox();
    if (!(box.width + box.height)) blank.push("svg " + figure.outerHTML.slice(0, 80));
  }
  return blank;
}"""

# A formula that MathJax has not set stays text between \\( and \\).
BAD_FORMULAS = """async () => {
  const formulas = [...document.querySelectorAll("article .math")];
  if (formulas.length) await MathJax.startup.promise;
  const isSet = f => f.querySelector("mjx-container") && !f.querySelector("mjx-merror");
  return formulas.filter(f => !isSet(f)).map(f => f.textContent);
}"""

# What sticks out to the right of the screen and is in no scrolling box.
TOO_WIDE = """() => {
  const root = document.scrollingElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  const all = [...document.querySelectorAll("article *")];
  const out = all.filter(e => e.getBoundingClientRect().right > root.clientWidth + 1);
  return [root.scrollWidth + " px", ...out.slice(0, 5).map(e => e.outerHTML.slice(0, 80))];
}"""


def test_there_are_chapters():
    assert "book/intro" in CHAPTERS


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_page(page, site, problems, built_site, chapter):
    if not (built_site / f"{chapter}.html").exists():
        pytest.fail(f"{chapter} is in _toc.yml and not in the built book: make book")
    page.goto(f"{site}/{chapter}.html", wait_until="load")
    assert page.evaluate(BAD_FORMULAS) == []
    assert page.evaluate(BLANK_FIGURES) == []
    assert page.evaluate(TOO_WIDE) == []
    assert problems == []


def test_search_finds_the_parameter_shift_rule(page, site, problems):
    page.goto(f"{site}/search.html?q=parameter-shift")
    page.wait_for_selector("ul.search li a")
    found = page.eval_on_selector_all("ul.search li a", "links => links.map(a => a.href)")
    assert any("book/circuit.html" in link for link in found)
    assert problems == []


def test_local_links_lead_somewhere(built_site):
    """Pages, their parts, images, scripts: everything a page names on this site is there."""
    soups = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in built_site.rglob("*.html")
        if "_static" not in path.relative_to(built_site).parts
    }
    names = {
        path: {tag[key] for key in ("id", "name") for tag in soup.find_all(attrs={key: True})}
        for path, soup in soups.items()
    }
    broken = []
    for path, soup in soups.items():
        targets = {tag[key] for key in ("href", "src") for tag in soup.find_all(attrs={key: True})}
        for target in sorted(targets):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            there = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not there.exists():
                broken.append(f"{path.name}: {target}")
            elif url.fragment and there in names and unquote(url.fragment) not in names[there]:
                broken.append(f"{path.name}: {target}, no such part")
    assert len(soups) > len(CHAPTERS)
    assert broken == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_sliders_change_probabilities_and_weights(page, site, problems):
    """All angles 0 is the state 000; then one slider, moved by keys, turns its qubit by pi."""
    page.goto(f"{site}/book/circuit.html")
    figure = page.locator("div.live[data-figure=circuit]")
    says, charts = figure.locator(".live-says"), figure.locator(".live-chart svg")
    figure.get_by_role("button", name="all angles 0").click()
    assert "Most likely: 000, with p = 1.000" in says.text_content()
    weights_before = charts.nth(1).get_attribute("aria-label")
    slider = figure.get_by_label("angle of qubit 2 in block 2")
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "3.14 rad"
    assert "Most likely: 001, with p = 1.000" in says.text_content()
    assert charts.nth(1).get_attribute("aria-label") != weights_before
    figure.get_by_label("qubits", exact=True).select_option("4")
    assert charts.nth(0).locator("rect").count() == 16
    figure.get_by_label("blocks", exact=True).select_option("3")
    assert figure.locator("input[type=range]").count() == 12
    figure.get_by_label("shots", exact=True).select_option("100")
    assert "of 100 shots" in says.text_content()
    assert problems == []


def test_counts_follow_what_is_typed(page, site, problems):
    page.goto(f"{site}/book/mapping.html")
    figure = page.locator("div.live[data-figure=counts]")
    says = figure.locator(".live-says").first
    assert "= 457," in says.text_content()
    figure.get_by_label("blocks, L").fill("121")
    assert "= 1,822," in says.text_content()
    figure.get_by_label("weights of your network, M").fill("-3")
    assert "must be between 1" in says.text_content()
    assert problems == []


def test_accuracy_tells_its_seeds(page, site, problems):
    page.goto(f"{site}/book/intro.html")
    figure = page.locator("div.live[data-figure=accuracy]")
    says, points = figure.locator(".live-says"), figure.locator(".live-chart .live-point")
    points.first.focus()
    assert says.text_content() == "Paper, 16 blocks (457 parameters): 81.08 %, one seed."
    page.keyboard.press("ArrowRight")
    assert "31 blocks (652 parameters): 84.69 %" in says.text_content()
    points.locator("circle").first.hover()
    assert "recipe" not in says.text_content()
    assert "seed 0: " in says.text_content()
    assert problems == []


@pytest.mark.parametrize(
    ("chapter", "name"), [("circuit", "circuit"), ("mapping", "counts"), ("intro", "accuracy")]
)
def test_without_javascript_a_still_image_is_there(browser, site, chapter, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/book/{chapter}.html")
    still = page.locator(f"div.live[data-figure={name}] img")
    assert still.is_visible()
    assert still.bounding_box()["height"] > 100
    context.close()


def test_executed_notebooks_are_offered(built_site):
    """Every chapter with cells has its notebook behind the download button, outputs and all."""
    for chapter in CHAPTERS:
        if "{code-cell}" not in (ROOT / f"{chapter}.md").read_text():
            continue
        notebook = json.loads((built_site / "_sources" / f"{chapter}.ipynb").read_text())
        outputs = [o for c in notebook["cells"] for o in c.get("outputs", [])]
        assert outputs, chapter
        assert {o["output_type"] for o in outputs}.isdisjoint({"error"}), chapter
        page = BeautifulSoup((built_site / f"{chapter}.html").read_text(), "html.parser")
        link = page.find("a", class_="btn-download-notebook-button")
        assert link["href"].endswith(f"_sources/{chapter}.ipynb")


def test_a_launch_button_is_there_if_the_repository_is_known(built_site):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    page = (built_site / "book/circuit.html").read_text()
    assert ("mybinder.org/v2" in page) == bool(config["repository"]["url"])


def test_links_to_a_page_have_a_preview(built_site):
    page = BeautifulSoup((built_site / "book/circuit.html").read_text(), "html.parser")
    preview = {tag["property"]: tag["content"] for tag in page.find_all("meta", property=True)}
    assert preview["og:title"] == "The circuit"
    assert "angles" in preview["og:description"]
    picture = built_site / "_static" / Path(preview["og:image"]).name
    assert picture.read_bytes().startswith(b"\x89PNG")
