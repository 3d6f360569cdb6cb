"""The drawing page in a browser: digits drawn by mouse, finger and keyboard, at two widths."""

from pathlib import Path

import numpy as np
import pytest

from qtlite.experiments.inference.model_files import BOOK_MODELS
from qtlite.experiments.inference.predict import load_classifier

BOOK = Path(__file__).resolve().parents[2] / "book"

# a hand's strokes in a square of 1 x 1
ONE = [[(0.42, 0.28), (0.55, 0.15), (0.53, 0.85)]]
FOUR = [[(0.35, 0.2), (0.3, 0.55), (0.72, 0.52)], [(0.62, 0.2), (0.6, 0.85)]]
SEVEN = [[(0.3, 0.22), (0.72, 0.2), (0.48, 0.84)]]
DRAWINGS = {"1": ONE, "4": FOUR, "7": SEVEN}


@pytest.fixture
def drawing(page, site):
    """The page, ready to draw on, and its pad."""
    page.goto(f"{site}/book/draw.html")
    show_pad(page)
    return page, page.locator(".qtlite-pad")


def show_pad(page):
    """Scroll at once: the theme scrolls smoothly, and the pad would move on while we draw."""
    page.evaluate(
        "document.querySelector('.qtlite-pad').scrollIntoView("
        "{block: 'center', behavior: 'instant'})"
    )


def answer(page):
    return page.locator("#qtlite-draw").get_attribute("data-answer")


def draw(page, pad, strokes):
    show_pad(page)
    box = pad.bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=12)
        page.mouse.up()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_drawn_digits_get_their_class_from_every_model_and_all_is_shown(drawing, size, problems):
    page, pad = drawing
    radios = page.locator("#qtlite-draw input[type=radio]").all()
    for digit, strokes in DRAWINGS.items():
        page.get_by_role("button", name="Clear").click()
        assert answer(page) == ""
        draw(page, pad, strokes)
        for radio in (*radios, radios[0]):
            radio.check()
            assert answer(page) == digit
    assert "QT-16 says 7" in page.locator(".qtlite-answer").inner_text()
    rows = page.locator(".qtlite-map-row").all()
    assert [row.locator("canvas").count() for row in rows] == [8, 12]
    percents = page.locator(".qtlite-number").all_inner_texts()
    assert len(percents) == 10
    assert sum(float(text.split()[0]) for text in percents) == pytest.approx(100, abs=0.6)
    labels = page.locator(".qtlite-choice label").all_inner_texts()
    for label, name in zip(labels, BOOK_MODELS, strict=True):
        about = load_classifier(BOOK / "models" / f"{name}.json").about
        assert about["model"] in label
        assert f"{int(about['n_trainable']):,} trained" in label
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for canvas in page.locator("#qtlite-draw canvas").all():
        box = canvas.bounding_box()
        assert box["width"] == pytest.approx(box["height"], abs=1)
    assert [p for p in problems if "theme mode" not in p] == []


def test_a_one_drawn_by_keyboard(drawing):
    page, pad = drawing
    pad.focus()
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    before = page.evaluate("scrollY")
    page.keyboard.press("Space")
    for _ in range(17):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert answer(page) == "1"
    assert (page.evaluate("scrollY"), page.url.endswith("draw.html")) == (before, True)
    page.keyboard.press("ArrowLeft")  # the theme would turn the page
    page.keyboard.press("Delete")
    assert answer(page) == ""
    assert page.url.endswith("draw.html")


def test_a_seven_drawn_by_finger(browser, site):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(f"{site}/book/draw.html")
    show_pad(page)
    box = page.locator(".qtlite-pad").bounding_box()
    assert box["width"] <= 0.85 * 390  # room to scroll by
    touch = context.new_cdp_session(page)
    before = page.evaluate("scrollY")
    points = [
        {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        for (ax, ay), (bx, by) in zip(SEVEN[0], SEVEN[0][1:], strict=False)
        for x, y in zip(np.linspace(ax, bx, 8), np.linspace(ay, by, 8), strict=True)
    ]
    for kind, at in [
        ("touchStart", points[:1]),
        *(("touchMove", [point]) for point in points[1:]),
        ("touchEnd", []),
    ]:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    assert answer(page) == "7"
    assert page.evaluate("scrollY") == before
    context.close()


def test_buttons(drawing):
    page, pad = drawing
    assert answer(page) == "3"  # an example, until the reader draws
    page.get_by_role("button", name="Example").click()
    assert answer(page) == "4"
    draw(page, pad, ONE)
    assert answer(page) == "1"  # the example is gone
    draw(page, pad, [[(0.3, 0.84), (0.75, 0.84)]])
    page.get_by_role("button", name="Undo").click()
    assert answer(page) == "1"
    page.get_by_role("button", name="Undo").click()
    assert answer(page) == ""
    assert "Nothing drawn" in page.locator(".qtlite-answer").inner_text()


def test_the_onnx_file_can_be_downloaded(drawing, tmp_path):
    page, _ = drawing
    for radio, name in zip(
        page.locator("#qtlite-draw input[type=radio]").all(), BOOK_MODELS, strict=True
    ):
        radio.check()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download .onnx").click()
        download.value.save_as(tmp_path / "a.onnx")
        committed = BOOK / "models" / f"{name}.onnx"
        assert (tmp_path / "a.onnx").read_bytes() == committed.read_bytes()


def test_a_tiny_file_is_opened_and_a_damaged_one_refused(page, site, tmp_path, problems):
    page.goto(f"{site}/book/draw.html")
    content = (BOOK / "models" / "mnist-tiny.qt").read_bytes()
    for name, bytes_ in (("whole", content), ("damaged", content[:-1] + b"\0")):
        (tmp_path / f"{name}.qt").write_bytes(bytes_)
    chosen = page.get_by_label("Open a .json or .qt file")
    chosen.set_input_files(tmp_path / "whole.qt")
    page.locator(".qtlite-answer", has_text=f"{len(content)} bytes").wait_for()
    answers = []
    for _ in range(10):
        answers.append(answer(page))
        page.get_by_role("button", name="Example").click()
    assert sum(a == d for a, d in zip(answers, "3456789012", strict=True)) >= 7
    chosen.set_input_files(tmp_path / "damaged.qt")
    page.locator(".qtlite-answer", has_text="its checksum is wrong").wait_for()
    assert problems == []
