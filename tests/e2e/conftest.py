"""The built book in a real browser: a static server, Debian's Chromium, three sizes of screen."""

import functools
import http.server
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"
SIZES = {"desktop": (1300, 900), "tablet": (768, 1024), "phone": (390, 844)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def built_site():
    """The folder of the built pages."""
    if not (SITE / "index.html").exists():
        pytest.skip("the book is not built: make book")
    return SITE


@pytest.fixture(scope="session")
def soup(built_site):
    """Reads a page, such as "book/circuit", once."""

    @functools.cache
    def read(name):
        return BeautifulSoup((built_site / f"{name}.html").read_text("utf-8"), "html.parser")

    return read


@pytest.fixture(scope="session")
def site(built_site):
    """The address of the built book, without a slash at its end."""
    handler = functools.partial(QuietHandler, directory=built_site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip(f"needs one of {', '.join(CHROMIUM)} on PATH: apt-get install chromium")
    with playwright.sync_playwright() as session:
        # no sandbox: CI runs as root, and the pages are our own
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def size():
    """Name of the screen's size; ``@pytest.mark.parametrize("size", ...)`` to have others."""
    return "desktop"


@pytest.fixture
def sizes():
    """Width and height of every screen."""
    return SIZES.values()


@pytest.fixture
def problems():
    """What went wrong on the page so far, one line each; ``page`` fills it."""
    return []


@pytest.fixture(scope="session")
def new_page(browser, site):
    """Opens an empty tab that lists what goes wrong and reaches no host but ``site``."""

    @contextmanager
    def opened(size, problems):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height})

        def refuse(route):
            problems.append(f"asks another host: {route.request.url}")
            route.abort()

        def listen(kind, text):
            page.on(kind, lambda event: (line := text(event)) and problems.append(line))

        context.route(lambda url: not url.startswith((site, "data:", "blob:")), refuse)
        page = context.new_page()
        listen("console", lambda m: m.type == "error" and f"console: {m.text}")
        listen("pageerror", lambda error: f"script: {error}")
        listen("response", lambda a: a.status >= 400 and f"{a.status}: {a.url}")
        yield page
        context.close()

    return opened


@pytest.fixture
def page(new_page, size, problems):
    with new_page(size, problems) as page:
        yield page
