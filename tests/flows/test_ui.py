"""What a person does in a browser: find the deployment, fill in the form, watch, look at the results.

Screenshots of every step are left in `out/screenshots`, to be looked at.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.flows.api import Api
from tests.flows.process import Csp, until
from tests.places import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

PICTURES = ROOT / "out" / "screenshots"


@pytest.fixture(scope="module", autouse=True)
def pictures() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)


def photograph(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def open_form(page: Page, csp: Csp) -> None:
    page.goto(f"{csp.url}/deployments")
    page.get_by_role("link", name="predict", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(field(page, "Formula")).to_be_visible()


def field(page: Page, title: str) -> Locator:
    """The box under a title; Prefect's labels point at no box, and the parts of the form are labels too."""
    title_of = page.get_by_text(re.compile(rf"^{title}( \(Optional\))?$"))
    return page.locator(".p-label").filter(has=title_of).last.locator("textarea, input").first


def test_a_wrong_formula_is_refused_by_the_form(page: Page, csp: Csp) -> None:
    open_form(page, csp)
    photograph(page, "1-form")
    field(page, "Formula").fill("gaas")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("does not match").first).to_be_visible()
    photograph(page, "2-refused")


def test_pages_ask_no_other_server(page: Page, csp: Csp) -> None:
    page.goto(f"{csp.url}/deployments")
    refused = page.evaluate(
        """() => new Promise(told => {
            document.addEventListener("securitypolicyviolation", event => told(event.effectiveDirective))
            fetch("http://127.0.0.1:9/").catch(() => setTimeout(() => told("asked"), 1000))
        })"""
    )
    assert refused == "connect-src"


def test_gaas_from_the_form_to_the_picture(page: Page, csp: Csp) -> None:
    open_form(page, csp)
    field(page, "Formula").fill("GaAs")
    for title, number in {
        "Candidates": 12, "Screened": 4, "Relaxed": 2, "Refined": 2, "Rattled": 0, "Steps": 2,
        "Largest cell": 4,
    }.items():  # fmt: skip
        field(page, title).fill(str(number))
    photograph(page, "3-filled")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("link", name="predict GaAs").first.click()
    page.wait_for_url("**/runs/flow-run/*")
    api, id_ = Api(csp), page.url.rstrip("/").rpartition("/")[2]
    until(lambda: api.run(id_)["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED"), "the end of the run")
    page.reload()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    photograph(page, "4-completed")
    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text("picture-gaas").first).to_be_visible()
    photograph(page, "5-artifacts")
    ids = {artifact["key"]: artifact["latest_id"] for artifact in api.ask("/artifacts/latest/filter")}
    for name, what in (("summary-gaas", "From candidates to the ranking"), ("ranking-gaas", "space group")):
        page.goto(f"{csp.url}/artifacts/artifact/{ids[name]}")
        expect(page.get_by_text(what).first).to_be_visible()
        photograph(page, f"6-{name}")
    page.goto(f"{csp.url}/artifacts/artifact/{ids['picture-gaas']}")
    picture = page.locator("img[src$='ranking.png']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 500
    photograph(page, "7-picture")
    page.goto(f"{csp.url}/v2/artifacts/artifact/{ids['summary-gaas']}")  # Prefect's newer pages
    expect(page.get_by_role("heading", name="GaAs")).to_be_visible()
    photograph(page, "8-summary-v2")
    page.get_by_role("link", name="Report").click()
    page.wait_for_url(f"{csp.url}/files/GaAs-*/report.html")
    expect(page.get_by_role("heading", name="GaAs").first).to_be_visible()
    photograph(page, "9-report")
    with page.expect_download() as crystal:
        page.get_by_role("link", name="GaAs-1.cif").click()
    assert "_cell_length_a" in crystal.value.path().read_text()
