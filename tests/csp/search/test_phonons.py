"""A search with phonons: what is first is looked at, saddles give way, workers and kills change nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from csp.report.files import write_report
from csp.report.record import RunRecord, versions
from csp.search.prediction import Prediction
from csp.search.search import Search
from csp.search.stages import PHONON_STEPS, STAGES, asked_for, stage_of_step
from tests.csp.search.test_search import SETTINGS, Interrupting, search

WITH = SETTINGS.model_copy(update={"phonons": 2, "phonon_length": 4.5, "rattled": 0})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prediction]:
    folder = tmp_path_factory.mktemp("run")
    return folder, search(folder, settings=WITH).run()


def test_the_first_of_the_ranking_have_phonons(finished: tuple[Path, Prediction]) -> None:
    _, found = finished
    assert len(found.phonons) == len(found.results)
    for result, phonons in zip(found.results[:2], found.phonons[:2], strict=True):
        assert phonons is not None
        assert result.dynamic_stability == str(phonons.stability)
        assert result.lowest_frequency_thz == phonons.lowest
    assert found.results[0].dynamic_stability != "unstable"
    assert not any("has no phonons" in warning for warning in found.warnings)


def test_what_lies_below_a_saddle_takes_its_place(finished: tuple[Path, Prediction], tmp_path: Path) -> None:
    """Rocksalt is no minimum of a pair potential that likes neighbours: what comes of it is the lowest of
    all, and says where it comes from."""
    _, found = finished
    settings = SETTINGS.model_copy(update={"rattled": 0})
    without = search(tmp_path, settings=settings).run()
    energies = {result.spacegroup: result.energy_ev_per_atom for result in without.results}
    assert "Fm-3m" in energies
    first = found.results[0]
    assert first.led_from.startswith("Fm-3m along ")
    assert first.energy_ev_per_atom < min(energies.values()) - 4e-4
    assert "Fm-3m" not in {result.spacegroup for result in found.results}


def test_a_search_that_is_done_can_be_asked_for_phonons(
    finished: tuple[Path, Prediction], tmp_path: Path
) -> None:
    search(tmp_path, settings=SETTINGS.model_copy(update={"rattled": 0})).run()
    before = SETTINGS.model_copy(update={"rattled": 0})
    later = replace(search(tmp_path, settings=before, resume=True), settings=WITH).run()
    assert later.results == finished[1].results


def test_several_workers_do_it_between_them(finished: tuple[Path, Prediction], tmp_path: Path) -> None:
    workers = [search(tmp_path, settings=WITH, resume=bool(k)) for k in range(2)]
    for stage in asked_for(WITH):
        rounds = workers[0].further(stage.name) if stage.steps else [0]
        for number in rounds:
            for step in stage.steps or (stage.name,):
                for k, worker in enumerate(workers):
                    if number:
                        worker.do(number, step, (k, 2))
                    else:
                        getattr(worker, step)((k, 2))
    assert workers[1].conclude().results == finished[1].results


@pytest.mark.parametrize("left", [3, 12])
def test_interrupted_and_resumed(finished: tuple[Path, Prediction], tmp_path: Path, left: int) -> None:
    counting = Interrupting(100_000)
    search(tmp_path / "before", counting, settings=SETTINGS.model_copy(update={"rattled": 0})).run()
    done = 100_000 - counting.left  # what comes after is of phonons
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Interrupting(done + left), settings=WITH).run()
    search(tmp_path, settings=WITH, resume=True).conclude()
    assert search(tmp_path, settings=WITH, resume=True).run().results == finished[1].results


def test_the_table_of_stages_knows_whose_step_it_is() -> None:
    for step in PHONON_STEPS:
        stage = stage_of_step(step)
        assert stage is not None
        assert stage.name == "phonons"
    assert stage_of_step("relax") in STAGES
    assert stage_of_step("close") is not None
    assert "phonons" not in [stage.name for stage in asked_for(SETTINGS)]


def test_files_figures_and_page(finished: tuple[Path, Prediction], tmp_path: Path) -> None:
    _, found = finished
    record = RunRecord(
        settings={}, versions=versions(), checkpoints={}, library={}, device="cpu", citations=()
    )
    write_report(found, tmp_path, record, symprec=0.1)
    told = json.loads((tmp_path / "phonons" / "phonons.json").read_text())["results"]
    assert [row["rank"] for row in told] == [k + 1 for k, one in enumerate(found.phonons) if one is not None]
    first = told[0]
    assert (tmp_path / "phonons" / first["figure"]).read_text().startswith("<svg")
    assert (tmp_path / "phonons" / "001_phonopy.yaml").stat().st_size > 1000
    assert len(first["bands"]["distance"]) == len(first["bands"]["frequency"])
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Vibrations</h2>" in page
    assert page.count('class="phonons"') == len(told)
    ranked = json.loads((tmp_path / "ranked.json").read_text())["results"]
    assert ranked[0]["dynamic_stability"] == found.results[0].dynamic_stability


def test_the_conclusion_before_any_round_is_that_without_phonons(finished: tuple[Path, Prediction]) -> None:
    folder, _ = finished
    again: Search = search(folder, settings=WITH, resume=True)
    assert again._concluded(0).ranked_crystals.ids() != []
    assert again.dynamics is not None
    assert again.dynamics.closed >= 1
