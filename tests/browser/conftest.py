"""A browser and a site of made-up results. Without a browser these tests are skipped and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import build_site

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = ["baselines", "icr", "anyloss", "fullrank"]


def executable() -> str:
    """The browser to drive: RANKREPRO_BROWSER (then it must be there), or one on the path."""
    wanted = os.environ.get("RANKREPRO_BROWSER")
    browser = shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, NAMES)), None)
    if wanted and not browser:
        pytest.fail(f"RANKREPRO_BROWSER={wanted} is not on the path")
    if not browser:
        pytest.skip("NO BROWSER: the pages were not tested in one; run `make test-browser`")
    return browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = executable()
    if os.environ.get("RANKREPRO_BROWSER"):
        from playwright.sync_api import sync_playwright
    else:
        reason = "NO PLAYWRIGHT: the pages were not tested in a browser; run `make test-browser`"
        sync_playwright = pytest.importorskip("playwright.sync_api", reason=reason).sync_playwright
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses a sandbox to root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"), KEYS)


class Visitor:
    """Opens pages and keeps what goes wrong on them: errors, messages, requests to elsewhere."""

    def __init__(self, browser: Any, site: Path) -> None:
        self.browser, self.site, self.wrong = browser, site, list[str]()
        self.contexts: list[Any] = []

    def open(self, path: str = "index.html", width: int = 1280, **options: Any) -> Any:
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: self.wrong.append(f"{m.type}: {m.text}") if m.type != "log" else None)
        page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else self.wrong.append(r.url))
        page.on("dialog", lambda d: (self.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        page.goto(f"{self.site.as_uri()}/{path}")
        return page


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Any]:
    """`visit(path, width=..., ...)` opens a page of the site from the file system. Any error on it fails the test."""
    visitor = Visitor(browser, site)
    yield visitor.open
    for context in visitor.contexts:
        context.close()
    assert visitor.wrong == []
