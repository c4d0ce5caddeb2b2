"""`csp.predict` as a notebook has it: real generators and models, small numbers."""

from __future__ import annotations

import inspect
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

import csp
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import Label, Proposals, Provenance
from csp.search.prediction import Prediction
from csp.search.under_pressure import UnderPressure
from csp.settings import SearchSettings
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from tests.lennard_jones import LennardJones
from tests.places import SHARED

FEW: dict[str, Any] = {"candidates": 6, "relaxed": 4, "rattled": 0, "max_atoms": 4, "progress": False}


class Rocksalt:
    """Rock salt in cells drawn from (seed, i)."""

    name = "rocksalt"

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        rows = range(start, start + n)
        edges = [5.0 * np.random.default_rng([seed, i]).uniform(0.9, 1.1) for i in rows]
        crystals = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=edge) for edge in edges])
        return Proposals(crystals, [Provenance(self.name, i, seed, 225) for i in rows], n, Counter())


class Softer(LennardJones):
    name, label = "softer", Label("LJ", "softer", "1")


def predict(**more: Any) -> Prediction:
    return csp.predict("NaCl", **{**FEW, "surrogate": "none", "relaxer": LennardJones(), **more})


@pytest.fixture(scope="module")
def found() -> Prediction:
    return predict(generators=["template", Rocksalt()])


def test_what_comes_back(found: Prediction) -> None:
    best = found[0]
    assert len(found) == len(list(found)) == len(found.results) > 1
    assert found[-1].rank == len(found)
    assert [one.rank for one in found[:2]] == [1, 2]
    assert found.index(found[1]) == 1
    assert best in found
    assert best.structure.composition.reduced_formula == "NaCl"
    assert best.space_group == best.structure.get_space_group_info()[0]
    assert best.atoms.get_potential_energy() == best.energy
    assert best.energy == pytest.approx(best.energy_per_atom * len(best.structure))
    model = csp.load_model(LennardJones())
    assert model.evaluate(best.structure).energy.item() == pytest.approx(best.energy, abs=1e-6)
    assert {one.result.generator for one in found} <= {"template", "rocksalt"}


def test_nothing_is_left_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    predict(generators=[Rocksalt()])
    assert not list(tmp_path.iterdir())


def test_a_folder_can_be_gone_on_with_by_a_model_of_the_same_label(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    first = predict(generators=[Rocksalt()], out=out)
    assert (tmp_path / "run" / "ranked.json").is_file()
    again = predict(generators=[Rocksalt()], out=out, resume=True)
    assert [r.id for r in again.results] == [r.id for r in first.results]
    other = renamed(Softer(), "lennard-jones")
    with pytest.raises(InputError, match="other settings: checkpoints"):
        predict(generators=[Rocksalt()], out=out, resume=True, relaxer=other)


def test_two_models_by_object() -> None:
    found = predict(generators=[Rocksalt()], surrogate=Softer(), relaxer=csp.load_model(LennardJones()))
    assert found.models == ("softer", "lennard-jones")
    assert str(found.label) == "LJ/none/1"


def test_a_generator_of_the_engine_by_object_gives_what_its_name_gives() -> None:
    from csp.library.library import Library
    from csp.library.volume import VolumePrior

    by_name = predict(generators="random")
    library = Library.open()
    by_object = predict(generators=[RandomGenerator(library, VolumePrior.load())], library=library)
    assert [r.id for r in by_object.results] == [r.id for r in by_name.results]


def test_progress_can_be_a_function() -> None:
    seen = []
    predict(generators=[Rocksalt()], progress=lambda stage, done, total: seen.append(stage))
    assert list(dict.fromkeys(seen))[:2] == ["propose", "filter"]


class Nameless:
    def propose(self) -> None: ...


def renamed(thing: Any, name: str) -> Any:
    thing.name = name
    return thing


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"relaxd": 3},
            r"^csp.predict knows no 'relaxd'; did you mean relaxed\? See help\(csp.predict\)\.$",
        ),
        ({"crystal_system": "cubic"}, "did you mean crystal_systems?"),
        ({"qqq": 3}, r"^csp.predict knows no 'qqq'; see help\(csp.predict\)\.$"),
        ({"resume": True}, "A search is resumed from its folder: name it as out."),
        ({"relaxed": 0}, "relaxed: must be at least 1"),
        ({"candidates": "x"}, r"^candidates: must be a whole number \(got x\)\.$"),
        ({"pressure": float("nan")}, r"^pressure: must be a finite number \(got nan\)\.$"),
        ({"out": 3}, r"^out: must be a path \(got 3\)\.$"),
        ({"library": 3}, r"^library: must be a path \(got 3\)\.$"),
        ({"generators": ["swarm"]}, "there is no generator 'swarm'; choose from template"),
        ({"generators": [Nameless()]}, "The type Nameless is no generator"),
        ({"generators": [renamed(Rocksalt(), "template")]}, "A generator of the engine is named 'template'"),
        ({"generators": [Rocksalt(), Rocksalt()]}, "Two generators are named 'rocksalt'"),
        ({"relaxer": 3}, "A model cannot be made of the type int"),
        ({"relaxer": renamed(LennardJones(), "none")}, "A relaxer cannot be named 'none'"),
        ({"surrogate": renamed(Softer(), "lennard-jones")}, "are both named 'lennard-jones'"),
        ({"surrogate": "lennard-jones"}, "are both named 'lennard-jones'"),
        ({"relaxer": renamed(Softer(), "xs")}, "A model of the engine is named 'xs'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        predict(**wrong)
    assert str(caught.value).endswith((".", "?", ")"))


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        (5, r"^formula: must be a text \(got 5\)\.$"),
        ("5", r"^'5' is not a chemical formula: .*write one such as SrTiO3 or Ba\(FeAs\)2\.$"),
        ("Si()", r"^'Si\(\)' is not a chemical formula: nothing is in a bracket"),
    ],
)
def test_what_is_no_formula(formula: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        csp.predict(formula)


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(MissingError, match=r"There is no library at nowhere\.parquet"):
        predict(library="nowhere.parquet")


def test_the_signature_has_all_settings() -> None:
    parameters = inspect.signature(csp.predict).parameters
    assert set(SearchSettings.model_fields) <= set(parameters)
    assert parameters["relaxed"].default == SearchSettings.model_fields["relaxed"].default


def test_a_search_that_is_gone_on_with_keeps_its_relaxer_and_says_the_same_of_it(tmp_path, monkeypatch):
    """Nothing that was found out later changes what is written, whoever writes it."""
    tiny = {"candidates": 4, "relaxed": 2, "refined": 1, "rattled": 0, "max_steps": 2, "max_atoms": 4}
    monkeypatch.delenv("CSP_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = csp.predict("NaCl", tmp_path / "run", progress=False, **tiny)
    assert first.models[-1] == "chgnet"
    assert "nequix-oam-1" in first.relaxer_why
    before = (tmp_path / "run" / "ranked.json").read_bytes()
    monkeypatch.setenv("CSP_MODELS", str(SHARED / "models"))  # where the better one is to be had
    again = csp.predict("NaCl", tmp_path / "run", resume=True, progress=False, **tiny)
    assert again.models == first.models
    assert (tmp_path / "run" / "ranked.json").read_bytes() == before


def test_at_several_pressures(tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked: dict[str, Any] = {"generators": [Rocksalt()], "out": out, "pressure": [20, 0]}
    found = predict(**asked)
    assert isinstance(found, UnderPressure)
    assert found.pressures == [0.0, 20.0]
    assert [one.target.pressure for one in found.predictions] == [0.0, 20.0]
    wide, dense = (found.structure(0, gpa) for gpa in found.pressures)
    assert dense.volume < wide.volume
    assert dense.composition.reduced_formula == "NaCl"
    assert "is the lowest in enthalpy from 0 to 20 GPa." in repr(found)
    with pytest.raises(InputError, match="must be one of 0, 20 GPa"):
        found.structure(0, 10)
    written = (out / "pressures.json").read_bytes()
    assert (out / "20GPa" / "ranked.json").is_file()
    predict(**asked, resume=True)
    assert (out / "pressures.json").read_bytes() == written


@pytest.mark.parametrize("wrong", [[], [20], [5, 5.0], [0, "hot"], [0, 1e6], [0, None], "0,,3", object()])
def test_what_are_no_pressures_is_said_before_any_work(wrong: Any) -> None:
    with pytest.raises(InputError, match="pressure"):
        predict(pressure=wrong)
