"""Every page of the built book: at three widths, for everybody, with its links followed."""

import copy
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = re.findall(r"(?:root|file): (book/[\w/]+)", (ROOT / "_toc.yml").read_text())

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

# What is cut or sticks out: the page, a picture, a formula without a scroll bar, on a wide screen a
# table that scrolls, and a table's first cell that is folded into five lines.
TOO_WIDE = """() => {
  const found = [];
  const root = document.scrollingElement;
  const all = (selector) => [...document.querySelectorAll("article " + selector)];
  const report = (what, e) => found.push(what + ": " + e.outerHTML.slice(0, 120));
  const right = (e) => e.getBoundingClientRect().right;
  const scrolls = (e) => e.scrollWidth > e.clientWidth + 1;
  if (scrolls(root)) all("*").filter(e => right(e) > root.clientWidth + 1)
    .forEach(e => report("out of the page", e));
  for (const image of all(":is(figure, .cell_output) :is(img, svg)")) {
    if (image.closest("mjx-container") || !image.checkVisibility()) continue;
    if (right(image) > right(image.closest("figure, .cell_output")) + 1) report("cut", image);
  }
  for (const formula of all("mjx-container[display=true]")) {
    const style = getComputedStyle(formula);
    if (scrolls(formula) && style.overflowX === "visible") report("cut", formula);
  }
  for (const table of all("table")) {
    const box = table.closest(".pst-scrollable-table-container, .cell_output") || table;
    if (root.clientWidth >= 1200 && scrolls(box)) report("scrolls", table);
  }
  for (const cell of all("tbody tr > :first-child")) {
    const text = document.createRange();
    text.selectNodeContents(cell);
    const tall = text.getBoundingClientRect().height;
    const lines = tall / parseFloat(getComputedStyle(cell).lineHeight);
    if (lines > 4.5 && cell.textContent.length < 60) report("first column folded", cell);
  }
  return found;
}"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_page(page, site, problems, built_site, sizes, chapter):
    """Complete at every width; nothing serious or critical by axe-core, on the dark page too."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    if not (built_site / f"{chapter}.html").exists():
        pytest.fail(f"{chapter} is in _toc.yml and not in the built book: make book")
    page.goto(f"{site}/{chapter}.html", wait_until="load")
    page.add_style_tag(content="* { transition: none !important; }")  # colours on their way
    if chapter == "book/playground":  # its worker draws the start
        page.wait_for_selector("#qtlite-playground[data-step='0']", timeout=60_000)
    assert page.evaluate(BAD_FORMULAS) == []
    for wait in (100, 1000, 5000, 0):  # on a busy machine a drawing comes frames later
        if (blank := page.evaluate(BLANK_FIGURES)) == []:
            break
        page.wait_for_timeout(wait)
    assert blank == []
    assert "<Figure size" not in page.inner_text("article")  # its text in place of a figure
    found, options = [], {"resultTypes": ["violations"], "preload": False}
    for colours in ("light", "dark"):
        page.evaluate("name => { document.documentElement.dataset.theme = name; }", colours)
        for rule in axe.Axe().run(page, options=options).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                where = [node["html"][:120] for node in rule["nodes"][:3]]
                found.append(f"{colours}, {rule['id']}: {where}")
        options |= {"runOnly": ["color-contrast", "link-in-text-block"]}  # the rest stays
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        found += [f"{width}: {what}" for what in page.evaluate(TOO_WIDE)]
    assert found + problems == []


def test_local_links_lead_somewhere(built_site, soup):
    """Pages, their parts, images, scripts: everything a page names on this site is there."""
    pages = {
        path: soup(path.relative_to(built_site).with_suffix("").as_posix())
        for path in html(built_site)
    }
    names = {
        path: {tag[key] for key in ("id", "name") for tag in page.find_all(attrs={key: True})}
        for path, page in pages.items()
    }
    broken = []
    for path, page in pages.items():
        targets = {tag[key] for key in ("href", "src") for tag in page.find_all(attrs={key: True})}
        for target in sorted(targets):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            there = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not there.exists():
                broken.append(f"{path.name}: {target}")
            elif url.fragment and there in names and unquote(url.fragment) not in names[there]:
                broken.append(f"{path.name}: {target}, no such part")
    assert len(pages) > len(CHAPTERS)
    assert broken == []


def html(site):
    return [path for path in site.rglob("*.html") if "_static" not in path.parts]


@pytest.fixture
def live(page, site, problems):
    """Opens a chapter; gives its live figure and what this says."""

    def opened(chapter, name):
        page.goto(f"{site}/book/{chapter}.html")
        figure = page.locator(f"div.live[data-figure={name}]")
        return figure, figure.locator(".live-says").first

    yield opened
    assert problems == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_sliders_change_probabilities_and_weights(page, live):
    """All angles 0 is the state 000; then one slider, moved by keys, turns its qubit by pi."""
    figure, says = live("circuit", "circuit")
    charts = figure.locator(".live-chart svg")
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


def test_counts_follow_what_is_typed_and_accuracy_tells_its_seeds(page, live):
    figure, says = live("mapping", "counts")
    assert "= 457," in says.text_content()
    figure.get_by_label("blocks, L").fill("121")
    assert "= 1,822," in says.text_content()
    figure.get_by_label("weights of your network, M").fill("-3")
    assert "must be between 1" in says.text_content()
    figure, says = live("intro", "accuracy")
    points = figure.locator(".live-chart .live-point")
    points.first.focus()
    assert says.text_content() == "Paper, 16 blocks (457 parameters): 81.08 %, one seed."
    page.keyboard.press("ArrowRight")
    assert "31 blocks (652 parameters): 84.69 %" in says.text_content()
    points.locator("circle").first.hover()
    assert "recipe" not in says.text_content()
    assert "seed 0: " in says.text_content()


@pytest.mark.parametrize(
    ("chapter", "still", "height"),
    [
        ("circuit", "div.live[data-figure=circuit] img", 100),
        ("mapping", "div.live[data-figure=counts] img", 100),
        ("intro", "div.live[data-figure=accuracy] img", 100),
        ("draw", "article noscript svg[aria-label*='feature maps']", 200),
        ("playground", "img.play-still", 200),
    ],
)
def test_without_javascript_a_still_image_is_there(browser, site, chapter, still, height):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/book/{chapter}.html")
    assert page.locator(still).is_visible()
    assert page.locator(still).bounding_box()["height"] > height
    context.close()


@pytest.mark.parametrize(
    ("chapter", "ready"), [("draw", "[data-answer='3']"), ("playground", "[data-step='0']")]
)
def test_from_a_folder_without_a_server(browser, built_site, chapter, ready):
    page = browser.new_page()
    page.goto((built_site / "book" / f"{chapter}.html").as_uri())
    page.wait_for_selector(f"#qtlite-{chapter}{ready}", timeout=120_000)
    page.close()


def test_executed_notebooks_are_offered(built_site, soup):
    """Every chapter with cells has its notebook behind the download button, outputs and all."""
    for chapter in CHAPTERS:
        if "{code-cell}" not in (ROOT / f"{chapter}.md").read_text():
            continue
        notebook = json.loads((built_site / "_sources" / f"{chapter}.ipynb").read_text())
        outputs = [o for c in notebook["cells"] for o in c.get("outputs", [])]
        assert outputs, chapter
        assert {o["output_type"] for o in outputs}.isdisjoint({"error"}), chapter
        link = soup(chapter).find("a", class_="btn-download-notebook-button")
        assert link["href"].endswith(f"_sources/{chapter}.ipynb")


def test_buttons_follow_the_address_of_the_repository(built_site):
    """Binder, Colab and "edit this page": all of them where it is known, none where it is not."""
    page = (built_site / "book/circuit.html").read_text()
    known = "github.com/" in (built_site / "book/cite.html").read_text().split("git+")[-1][:40]
    for host in (
        "mybinder.org/v2/gh/",
        "colab.research.google.com/github/",
        "/edit/main/book/circuit.md",
    ):
        assert (host in page) == known, host


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_quick_checks_are_answered_by_keys(page, site, problems):
    page.goto(f"{site}/book/findings.html")
    choice, number = page.locator("form.quick-check").all()
    choice.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert choice.get_by_role("status").text_content().startswith("Not right")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert choice.get_by_role("status").text_content() == "Right."
    assert "0.1 percentage points" in choice.locator("details").inner_text()
    number.get_by_role("textbox").focus()
    for typed, says in (("one", "Type a number"), ("457", "Not right"), ("1,497", "Right.")):
        page.keyboard.press("Control+A")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        assert number.get_by_role("status").text_content().startswith(says)
    assert problems == []


def test_a_term_shows_its_definition(page, site, problems):
    page.goto(f"{site}/book/example.html")
    term = page.locator("a[data-definition]", has_text="basis state").first
    assert "outcomes of measuring N qubits" in term.get_attribute("data-definition")
    shown = "e => getComputedStyle(e, '::after').content"
    assert term.evaluate(shown) == "none"
    term.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert "outcomes of measuring N qubits" in term.evaluate(shown)
    assert problems == []


def test_the_printed_book_has_every_chapter(built_site, soup):
    """_build/qtlite.pdf opens, is small, and its outline has every page of the contents."""
    path = built_site.parent / "qtlite.pdf"
    if not path.exists():
        pytest.skip("the book is not printed: make pdf")
    assert path.stat().st_size <= 10e6
    reader = PdfReader(path)
    words = " ".join("".join(page.extract_text() for page in reader.pages).split())
    for chapter in CHAPTERS:
        title = copy.copy(soup(chapter).find("article").h1)
        for aside in title.select(".headerlink, .section-number"):
            aside.decompose()
        assert " ".join(title.get_text().split()) in words, chapter
    assert len(reader.outline) >= len(CHAPTERS)


def test_every_table_has_a_numbered_caption(soup):
    bare = [
        f"{chapter}: {table.get_text(' ')[:80]}"
        for chapter in CHAPTERS
        for table in soup(chapter).select("article table:not(details table)")
        if "/api/" not in chapter and not table.select_one("caption > .caption-number")
    ]
    assert bare == []


def test_links_to_a_page_have_a_preview(built_site, soup):
    tags = soup("book/circuit").find_all("meta", property=True)
    preview = {tag["property"]: tag["content"] for tag in tags}
    assert preview["og:title"] == "The circuit"
    assert "angles" in preview["og:description"]
    picture = built_site / "_static" / Path(preview["og:image"]).name
    assert picture.read_bytes().startswith(b"\x89PNG")
