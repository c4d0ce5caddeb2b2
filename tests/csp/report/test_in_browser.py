"""The page in a real browser: crystals are drawn, nothing is cut off, nothing is loaded, the keyboard reaches
all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal
from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

from csp.crystals import Crystals
from csp.property_value import Contributions, PropertyValue
from csp.ranking.known import KnownAs
from csp.report.files import write_report
from csp.search.prediction import Prediction, cif_path
from csp.target import Target
from tests.csp.report.example import RECORD, SYMPREC, prediction
from tests.places import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(1800)]

PICTURES = ROOT / "out" / "screenshots"
WIDTHS = (1280, 800, 400)
SECONDS = 2.0  # of one core, to load
PATIENCE = 180_000  # ms; the machine may be busy with other things, and draws in software
LARGEST = 6_000_000  # bytes
IN_SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WITHOUT_WEBGL = ["--no-sandbox", "--disable-gpu", "--disable-webgl", "--disable-3d-apis"]


def perovskites(n: int) -> list[Atoms]:
    """SrTiO3, cubic, in cells of 40 atoms without any symmetry, and in cells of 5."""
    rng = np.random.default_rng(0)
    cubic = crystal(
        ["Sr", "Ti", "O"],
        [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)],
        spacegroup=221,
        cellpar=[3.9] * 3 + [90] * 3,
    )
    found = [cubic]
    for k in range(1, n):
        cell = cubic.repeat(2 if k < 4 else 1)
        cell.positions += rng.normal(scale=0.12, size=cell.positions.shape)
        found.append(cell)
    return found


def ranked(atoms: list[Atoms], formula: str, **about: object) -> Prediction:
    """A prediction of these crystals, with long words in it."""
    crystals = Crystals.from_atoms(atoms)
    volumes = (crystals.volumes / crystals.n_atoms).tolist()
    first = prediction(sigma=0.02).results[0]
    results = [
        replace(
            first,
            rank=k + 1,
            file=cif_path(k + 1),
            n_atoms=len(atoms[k]),
            spacegroup="Pm-3m" if k == 0 else "P1",
            spacegroup_number=221 if k == 0 else 1,
            above_lowest_ev_per_atom=k / 5,
            volume_per_atom=volumes[k],
            wyckoff="Sr:a Ti:a " + "O:a " * 24,
            template_id="a-library-with-long-names-of-its-entries-123456789",
            probability=0.9 / (k + 1) ** 2,
            e_above_hull_ev_per_atom=k / 5 - 0.1234,
            rank_energy=k + 1,
            known_as=(KnownAs("a-library-with-long-names-123456789", "A library of crystals", 0.01, True),),
            prototype="AB3C_cP5_221_a_c_b (Cubic Perovskite (CaTiO3, E21))",
            novelty="known",
            above_lowest_sigma_ev_per_atom=0.127,
        )
        for k in range(len(atoms))
    ]
    return replace(prediction(), target=Target.parse(formula), results=results, crystals=crystals, **about)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 20 crystals."""
    folder = tmp_path_factory.mktemp("twenty")
    write_report(ranked(perovskites(20), "SrTiO3", order="probability"), folder, RECORD, symprec=SYMPREC)
    return folder / "report.html"


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Browser]]:
    """Starts Chromium with these arguments."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        yield lambda *args: playwright.chromium.launch(executable_path=chromium, args=list(args))


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Browser]) -> Iterator[Browser]:
    browser = launch(*IN_SOFTWARE)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of which every error is an error of the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield page
    assert wrong == []
    page.close()


def drawn(page: Page, place: int) -> None:
    """Wait until a card's crystal is drawn."""
    page.evaluate("k => document.querySelectorAll('.view')[k].scrollIntoView()", place)
    page.wait_for_function("k => document.querySelectorAll('.view')[k].querySelector('canvas')", arg=place)


def pattern(page: Page, place: int) -> None:
    """Wait until a card's powder pattern is drawn."""
    page.evaluate("k => document.querySelectorAll('.pattern')[k].scrollIntoView()", place)
    page.locator(".pattern").nth(place).locator("svg").wait_for()


WORDS_OUTSIDE = """() => [...document.querySelectorAll('.pattern svg text')].filter(e => {
  const word = e.getBoundingClientRect(), all = e.ownerSVGElement.getBoundingClientRect();
  return word.left < all.left - 1 || word.right > all.right + 1;
}).map(e => e.textContent)"""
CUT_OFF = """() => [...document.querySelectorAll('body, body *')].filter(e =>
  e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== 'inline'
  && !e.closest('svg, .view') && !e.title
).map(e => `${e.tagName} ${e.className} ${e.textContent.slice(0, 60)}`)"""

FOCUSED = """() => {
  const e = document.activeElement;
  return `${e.tagName} ${e.className || e.name || e.dataset.along || ''}`;
}"""

PIXELS = """k => {
  const canvas = document.querySelectorAll('.view')[k].querySelector('canvas');
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, copy.width, copy.height).data;
"""
"""Begins a function of the number of a view: its pixels, four numbers each, are `data`."""

COLOURS = (
    PIXELS
    + """  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return seen.size;
}"""
)


def cpu_seconds(browser: Browser) -> float:
    """Of all its processes so far, which does not depend on what else the machine does."""
    session = browser.new_browser_cdp_session()
    return sum(process["cpuTime"] for process in session.send("SystemInfo.getProcessInfo")["processInfo"])


def test_twenty_crystals_are_a_small_page_that_loads_at_once(report: Path, browser: Browser) -> None:
    assert report.stat().st_size < LARGEST
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    before = cpu_seconds(browser)
    page.goto(report.as_uri())
    assert page.locator(".card").count() == 20
    assert cpu_seconds(browser) - before < SECONDS
    page.close()


def test_nothing_is_asked_for_but_the_page_itself(report: Path, page: Page) -> None:
    session: CDPSession = page.context.new_cdp_session(page)
    asked: list[str] = []
    session.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["url"]))
    session.send("Network.enable")
    page.goto(report.as_uri())
    for place in (0, 7, 19):
        drawn(page, place)
    page.locator(".compare").nth(0).click()
    page.locator(".compare").nth(1).click()
    others = [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert others == [report.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_crystals_are_drawn(report: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    drawn(page, 0)
    drawn(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(COLOURS, 0) > 50
    assert page.evaluate(COLOURS, 1) > 50
    pattern(page, 0)
    assert page.evaluate(WORDS_OUTSIDE) == []
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=PICTURES / f"page-{width}.png")
    page.locator(".card").first.screenshot(path=PICTURES / f"card-{width}.png")


def test_few_contexts_draw_many_crystals_and_those_that_are_left_leave_a_picture(
    report: Path, page: Page
) -> None:
    page.goto(report.as_uri())
    for place in (0, 4, 8, 12, 16, 19):
        drawn(page, place)
    assert page.locator("canvas").count() <= 4
    assert page.locator(".still:not([hidden])").count() >= 2
    drawn(page, 0)
    assert page.evaluate(COLOURS, 0) > 50


def test_the_keyboard_reaches_all_and_turns_the_crystal(report: Path, page: Page) -> None:
    page.goto(report.as_uri())
    drawn(page, 0)
    page.locator("#crystal-1 .compare").focus()
    reached = []
    for _ in range(25):
        reached.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    wanted = {
        "BUTTON compare",
        "DIV view",
        "INPUT bonds",
        "INPUT polyhedra",
        "SELECT cells",
        "BUTTON a",
        "ABBR term",
    }
    assert wanted <= set(reached)
    assert {"SELECT wavelength", "INPUT angstrom"} <= set(reached)
    view = page.locator("#crystal-1 .view")
    view.focus()
    before = view.screenshot()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert view.screenshot() != before
    assert all(page.locator(".view").nth(k).get_attribute("aria-label") for k in range(20))
    page.locator("#crystal-1 .term").first.focus()
    told = page.evaluate("getComputedStyle(document.activeElement, '::after').content")
    assert "lowest-energy" in told


def test_a_supercell_and_polyhedra_are_there_when_they_are_asked_for(report: Path, page: Page) -> None:
    page.goto(report.as_uri())
    drawn(page, 0)
    view = page.locator("#crystal-1 .view")
    pictures = [view.screenshot()]
    page.locator("#crystal-1 input[name=polyhedra]").uncheck()
    pictures.append(view.screenshot())
    page.locator("#crystal-1 input[name=bonds]").uncheck()
    pictures.append(view.screenshot())
    page.locator("#crystal-1 select[name=cells]").select_option("2")
    pictures.append(view.screenshot())
    page.locator("#crystal-1 [data-along=a]").click()
    pictures.append(view.screenshot())
    assert len(set(pictures)) == len(pictures)


REDDISH = (
    PIXELS
    + """  let red = 0, blue = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] > data[i + 1] + 60 && data[i] > data[i + 2] + 60) red++;
    if (data[i + 2] > data[i] + 60) blue++;
  }
  return [red, blue];
}"""
)


def test_atoms_take_the_colours_of_their_contributions(page: Page, tmp_path: Path) -> None:
    given = prediction()
    value = PropertyValue("hardness", "hardness", "GPa", 60.0, 4.0, 52.0, 68.0, 1.0, False, "hardness")
    shares = Contributions(50.0, -20.0, (-40.0, 70.0))
    first = replace(given.results[0], properties=(replace(value, contributions=shares),))
    write_report(replace(given, results=[first, *given.results[1:]]), tmp_path, RECORD, symprec=SYMPREC)
    page.goto((tmp_path / "report.html").as_uri())
    drawn(page, 0)
    for name in ("bonds", "polyhedra"):
        if page.locator(f"#crystal-1 input[name={name}]").is_visible():
            page.locator(f"#crystal-1 input[name={name}]").uncheck()
    page.locator("#crystal-1 [data-along=a]").click()
    legend, words = page.locator("#crystal-1 .legend"), page.locator("#crystal-1 .shares")
    assert legend.is_visible()
    assert words.is_hidden()
    plain = page.locator("#crystal-1 .view").screenshot()
    choice = page.locator("#crystal-1 select[name=colour]")
    choice.select_option(label="hardness")
    red, blue = page.evaluate(REDDISH, 0)
    assert red > 1000  # arsenic raises it
    assert blue > 500  # gallium lowers it, less
    assert legend.is_hidden()
    assert "As 4c +70.0" in words.inner_text()
    page.locator("#crystal-1").screenshot(path=PICTURES / "contributions.png")
    choice.select_option(label="element")
    assert page.locator("#crystal-1 .view").screenshot() == plain  # as it was turned
    assert words.is_hidden()
    assert page.locator("#crystal-2 select[name=colour]").count() == 0
    choice.select_option(label="hardness")
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(CUT_OFF) == []


def test_the_pattern_follows_the_wavelength_on_all_cards(report: Path, page: Page) -> None:
    page.goto(report.as_uri())
    for place in (0, 1):
        pattern(page, place)
    page.locator("#crystal-1 .powder summary").click()
    rows = page.locator("#crystal-1 .reflections tr")

    def strongest() -> tuple[str, float, float]:
        cells = [rows.nth(k).locator("td").all_inner_texts() for k in range(rows.count())]
        planes, angle, spacing, _ = max(cells, key=lambda row: float(row[3]))
        return planes, float(angle), float(spacing)

    planes, angle, spacing = strongest()
    assert (planes, spacing) == ("110", pytest.approx(3.9 / 2**0.5, abs=1e-3))
    assert np.sin(np.radians(angle / 2)) == pytest.approx(1.54184 / (2 * spacing), abs=1e-4)
    page.locator("#crystal-1 select[name=wavelength]").select_option("0.71073")
    planes, angle, spacing = strongest()
    assert planes == "110"
    assert np.sin(np.radians(angle / 2)) == pytest.approx(0.71073 / (2 * spacing), abs=1e-4)
    assert page.locator("#crystal-2 input[name=angstrom]").input_value() == "0.71073"


@pytest.mark.parametrize("width", [1280, 400])
def test_two_crystals_stand_side_by_side(report: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    for rank in (2, 5):
        page.locator(f"#crystal-{rank} .compare").click()
    shown = page.locator(".card:visible")
    assert [shown.nth(k).get_attribute("data-rank") for k in range(shown.count())] == ["2", "5"]
    left, right = (shown.nth(k).bounding_box() for k in (0, 1))
    assert left
    assert right
    assert (left["y"] == right["y"]) == (width > 640)
    drawn(page, 1)
    drawn(page, 4)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=PICTURES / f"compared-{width}.png")
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".card:visible").count() == 20


def test_without_webgl_the_rest_is_there(launch: Callable[..., Browser], tmp_path: Path) -> None:
    browser = launch(*WITHOUT_WEBGL)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    write_report(prediction(), tmp_path, RECORD, symprec=SYMPREC)
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate("document.querySelector('.view').scrollIntoView()")
    expect(page.locator(".view").first).to_contain_text("no WebGL", timeout=PATIENCE)
    pattern(page, 0)
    browser.close()


def test_a_card_in_a_frame_as_in_a_notebook_draws_too(page: Page, tmp_path: Path) -> None:
    from csp.report.notebook import NotebookCard

    given = replace(prediction(), card=NotebookCard("GaAs", ("xs",), SYMPREC, False))
    html = given[0]._repr_html_()
    assert html
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><body>{html}</body>", encoding="utf-8")
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".view canvas").wait_for()
    frame.locator(".pattern svg").wait_for()
    assert frame.locator("h3").inner_text() == "1 cubic F4\u03053m (no. 216)"
