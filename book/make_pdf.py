"""Print the built book to one PDF: ``python book/make_pdf.py``, which is what ``make pdf`` calls.

Chromium prints a page that holds all chapters of _build/html in the order of _toc.yml. It prints
twice: the first time tells on which page a chapter begins, the second has these numbers in the
table of contents. The file is _build/qtlite.pdf.
"""

import functools
import http.server
import logging
import re
import shutil
import sys
import threading
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup
from pypdf import PdfReader, PdfWriter

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build/html"
PRINTED = SITE / "book/print.html"
PDF = ROOT / "_build/qtlite.pdf"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 10e6  # bytes
TITLE = "qtlite: Quantum-Train from circuit to network"
LEFT_OUT = (  # folded code and answers among them
    ".headerlink, .copybtn, script, button, .live-drawn, details.hide, form.quick-check details"
)
STYLE = """
/* these would be printed as pictures */
*:not(#none) { border-radius: 0 !important; box-shadow: none !important; filter: none !important; }
html, body { background: white; display: block; font-size: 10pt; height: auto; }
html, body { overflow: visible; }
main.bd-content, article { display: block; max-width: none; padding: 0; width: 100%; }
section.chapter { break-before: page; }
table, pre, figure, .admonition { font-size: 8.5pt; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
table { width: auto; } td, th { overflow-wrap: break-word; white-space: normal; }
.pst-scrollable-table-container, .cell_output, div.math, figure, pre, article {
  overflow: visible !important;
}
figure, img, tr { break-inside: avoid; } h1, h2, h3 { break-after: avoid; }
img { max-width: 100% !important; height: auto; }
details > :not(summary) { display: block; }
.contents li { display: flex; gap: .5em; list-style: none; }
.contents a { flex: 1; }
.title { padding-top: 30vh; text-align: center; }
"""
FOOT = (
    '<div style="font-size:8px;text-align:center;width:100%"><span class="pageNumber"></span></div>'
)


def pages() -> list[str]:
    """Pages of the book, such as book/intro, in the order of the table of contents."""
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    yaml.safe_load(contents)
    return re.findall(r"^\s*(?:root:|- file:) (\S+)$", contents, re.MULTILINE)


def article(page: str, known: set[str]) -> BeautifulSoup:
    """A page's article, its names and links made unique in a document that holds all pages."""
    soup = BeautifulSoup((SITE / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    body = soup.find("article")
    for tag in body.select(LEFT_OUT):
        tag.decompose()
    for tag in body.find_all("details"):
        tag["open"] = ""
    for tag in body.find_all(id=True):
        tag["id"] = f"{page}:{tag['id']}"
    for tag in body.find_all(href=True):
        url = urlsplit(urljoin(f"/{page}.html", tag["href"]))
        target = url.path.removeprefix("/").removesuffix(".html")
        if not url.netloc and target in known:
            tag["href"] = f"#{target}:{url.fragment}" if url.fragment else f"#{target}"
        elif not url.netloc:  # a file of the site, which is not in the PDF
            del tag["href"]
    for tag in body.find_all(src=True):
        if not tag["src"].startswith("data:"):
            tag["src"] = urljoin(f"/{page}.html", tag["src"])
    body.name, body["class"], body["id"] = "section", "chapter", page
    return body


def title(body: BeautifulSoup) -> str:
    return " ".join(body.find("h1").get_text().split())


def document(articles: dict[str, BeautifulSoup], starts: dict[str, int]) -> str:
    """One HTML page: title, contents with page numbers, chapters."""
    first = BeautifulSoup(
        (SITE / f"{next(iter(articles))}.html").read_text(encoding="utf-8"), "html.parser"
    )
    head = first.find("head")
    for script in head.find_all("script"):
        if "mathjax" not in str(script).lower():
            script.decompose()
    lines = [
        f'<li><a href="#{page}">{title(body)}</a><span>{starts.get(page, "")}</span></li>'
        for page, body in articles.items()
    ]
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light">{head}<style>{STYLE}</style>'
        f'<body><main class="bd-main bd-content"><article class="bd-article">'
        f'<div class="title"><h1>{TITLE}</h1></div>'
        f'<section class="chapter contents"><h1>Contents</h1><ul>{"".join(lines)}</ul></section>'
        f"{''.join(map(str, articles.values()))}</article></main></body></html>"
    )


def first_pages(pdf: Path, names: list[str]) -> dict[str, int]:
    """On which page, counted from 1, each chapter begins: where its link in the contents leads."""
    reader = PdfReader(pdf)
    found = reader.named_destinations
    keys = {name: key for name in names for key in (name, f"/{name}") if key in found}
    return {name: reader.get_destination_page_number(found[key]) + 1 for name, key in keys.items()}


def add_outline(pdf: Path, titles: dict[str, str], starts: dict[str, int]) -> None:
    """Add an outline of the chapters, and the title, to the printed file.

    Chromium's own outline comes with a description of every paragraph, which doubles the file.
    """
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium counts objects otherwise
    writer = PdfWriter(clone_from=pdf)
    for name, page in starts.items():
        writer.add_outline_item(title=titles[name], page_number=page - 1)
    for page in writer.pages:
        page.compress_content_streams(level=9)
    writer.add_metadata({"/Title": TITLE})
    writer.write(pdf)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def print_page(address: str, pdf: Path) -> None:
    """Print a page when its formulas are set and its images are there."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise SystemExit(f"make pdf needs one of {', '.join(CHROMIUM)} on PATH")
    with sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(address, wait_until="load")
        page.evaluate("async () => { await MathJax.startup.promise; await document.fonts.ready; }")
        page.pdf(
            path=pdf,
            format="A4",
            tagged=False,
            print_background=False,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOT,
            margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
        )
        browser.close()


def main() -> int:
    known = pages()
    if missing := [page for page in known if not (SITE / f"{page}.html").exists()]:
        raise SystemExit(f"these pages are not built: {', '.join(missing)}; run make book")
    articles = {page: article(page, set(known)) for page in known}
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        starts = {}
        try:
            for _ in range(2):
                PRINTED.write_text(document(articles, starts), encoding="utf-8")
                print_page(f"http://127.0.0.1:{server.server_port}/book/print.html", PDF)
                starts = first_pages(PDF, known)
            add_outline(PDF, {page: title(body) for page, body in articles.items()}, starts)
        finally:
            PRINTED.unlink(missing_ok=True)
            server.shutdown()
    size = PDF.stat().st_size
    print(f"{PDF.relative_to(ROOT)}: {len(starts)} chapters, {size / 1e6:.1f} MB")
    return 0 if size <= LARGEST and list(starts) == known else 1


if __name__ == "__main__":
    sys.exit(main())
