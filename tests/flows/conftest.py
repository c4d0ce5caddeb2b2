"""What the tests need of real programs: a `csp up` and a PostgreSQL, started once, and a browser."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.flows import postgres as postgres_server
from tests.flows.postgres import Postgres
from tests.flows.process import PATIENCE, Csp, new_csp, stop


@pytest.fixture(scope="session")
def csp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Csp]:
    """A `csp up` that all tests of the session may submit to."""
    started = new_csp(tmp_path_factory.mktemp("home"))
    process = started.up("--at-once", "2")
    yield started
    stop(process)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that is running; a test that stops it starts it again."""
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="module")  # while it lives, nothing else in its thread can use asyncio
def browser() -> Iterator[BrowserContext]:
    """A browser with no cookies; it takes the certificates that tests make themselves."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = program.new_context(viewport={"width": 1400, "height": 1000}, ignore_https_errors=True)
        context.set_default_timeout(1000 * PATIENCE)
        expect.set_options(timeout=1000 * PATIENCE)
        yield context
        program.close()


@pytest.fixture(scope="module")
def page(browser: BrowserContext, csp: Csp) -> Page:
    """A page of a browser that has opened the address which `csp up` prints."""
    page = browser.new_page()
    page.goto(f"{csp.url}/login#{csp.password}")
    page.wait_for_url(f"{csp.url}/v2/**")
    return page
