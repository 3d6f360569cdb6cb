"""Draw the picture that others show with a link to the book: ``python book/social_card.py``.

Needs Chromium and playwright, as the browser tests do. Its result is committed.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

STATIC = Path(__file__).parent / "_static"
CARD = """
<body style="margin: 0; width: 1200px; height: 630px; background: #fff; color: #1d232b;
             font-family: 'DejaVu Sans', sans-serif; display: flex; flex-direction: column;
             justify-content: center; box-sizing: border-box; padding: 0 90px;
             border-bottom: 24px solid #1f4e79">
  <div style="display: flex; align-items: center; gap: 56px">
    <div style="width: 300px">{logo}</div>
    <div style="font-size: 118px; font-weight: 700; letter-spacing: -3px">qtlite</div>
  </div>
  <p style="font-size: 42px; line-height: 1.35; margin: 44px 0 0">
    A quantum circuit with a few hundred angles writes the weights of an ordinary network.</p>
  <p style="font-size: 29px; color: #5f6b76; margin: 26px 0 0">
    Quantum-Train in PyTorch: a small library and a book that runs</p>
</body>
"""


def main() -> None:
    """Write _static/social-card.png, 1200 x 630 pixels."""
    logo = (STATIC / "logo.svg").read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        page.set_content(CARD.format(logo=logo))
        page.add_style_tag(content="svg { width: 100%; height: auto }")
        page.screenshot(path=STATIC / "social-card.png")
        browser.close()


if __name__ == "__main__":
    main()
