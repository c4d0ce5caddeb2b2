"""The convex hull against hand computation and linear programming; references against the library."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element
from scipy.optimize import linprog

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import ContractError, LabelError
from csp.library.importing import import_structures
from csp.library.library import Library
from csp.protocols import Evaluation, Generator, Label
from csp.ranking.hull import Hull, Phase, convex_hull
from csp.ranking.references import References
from csp.relaxation.relax import RelaxationResult, Status
from csp.search.search import Search
from csp.store.store import Store
from csp.target import Target
from tests.csp.search.test_own_entries import Known
from tests.csp.search.test_search import SETTINGS, Interrupting, Strained
from tests.lennard_jones import LennardJones

LABEL = LennardJones.label
FCC = [(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (0.0, 0.0, 0.0)]


def phases(*amounts: dict[int, int]) -> Crystals:
    """Crystals of these atomic numbers; where the atoms are does not matter to the hull."""
    numbers = [[z for z, n in some.items() for _ in range(n)] for some in amounts]
    return Crystals.from_arrays(
        [np.eye(3) * 9.0] * len(numbers), [np.zeros((len(z), 3)) for z in numbers], numbers
    )


# -- the hull -----------------------------------------------------------------------------------------


def test_a_binary_hull_by_hand() -> None:
    """Na −1, Cl −2, NaCl −4 eV/atom: Na3Cl lies half-way between Na and NaCl, (−1 − 4) / 2; NaCl3 is
    stable at −3.5, below (−2 − 4) / 2; a second, higher Na changes nothing."""
    known = phases({11: 1}, {17: 2}, {11: 2, 17: 2}, {11: 1, 17: 3}, {11: 4})
    energy = torch.tensor([-1.0, -2.0, -4.0, -3.5, -0.7], dtype=torch.float64)

    def hull(formula: str, rows: list[int]) -> float:
        return convex_hull(Target.parse(formula), known[rows], energy[rows], [LABEL]).energy

    assert hull("Na3Cl", [0, 1, 2, 3, 4]) == pytest.approx(-2.5)
    assert hull("NaCl", [0, 1, 2, 3, 4]) == pytest.approx(-4.0)
    assert hull("NaCl3", [0, 1, 2, 3, 4]) == pytest.approx(-3.5)
    assert hull("NaCl3", [0, 1, 2]) == pytest.approx(-3.0)
    assert hull("NaCl", [0, 1]) == pytest.approx(-1.5)
    apart = convex_hull(Target.parse("Na3Cl"), known, energy, [LABEL], ["na", "cl", "salt", "x", "high"])
    assert apart.decomposition == {"Na": pytest.approx(0.5), "NaCl": pytest.approx(0.5)}  # of the atoms
    # Na3Cl = 2 Na + NaCl
    assert [(p.id, p.amount) for p in apart.products] == [
        ("na", pytest.approx(2)),
        ("salt", pytest.approx(1)),
    ]
    assert apart.words(0.0124) == "12 meV/atom above 2 Na (na) + NaCl (salt)"
    assert apart.words(-0.045) == (
        "45 meV/atom below the hull of what the library holds: 2 Na (na) + NaCl (salt)"
    )
    assert apart.words(-0.0001) == "on the hull of what the library holds: 2 Na (na) + NaCl (salt)"


def test_a_single_element_has_its_lowest_phase() -> None:
    energy = torch.tensor([-5.0, -5.4], dtype=torch.float64)
    found = convex_hull(Target.parse("Si"), phases({14: 2}, {14: 3}), energy, [LABEL], ["a", "b"])
    low = pytest.approx(-5.4)
    assert found == Hull(low, {"Si": low}, (Phase("Si", "b", low, 0, 0, pytest.approx(1), pytest.approx(1)),))


@pytest.mark.parametrize("seed", range(5))
def test_a_ternary_hull_is_the_least_mixture(seed: int) -> None:
    """The hull at a composition is the linear programme: least energy of phases that add up to it."""
    rng = np.random.default_rng(seed)
    elements = (38, 22, 8)
    amounts = [dict.fromkeys([z], 1) for z in elements]
    amounts += [dict(zip(elements, n.tolist(), strict=True)) for n in rng.integers(0, 4, (30, 3)) if n.any()]
    known = phases(*amounts)
    energy = torch.from_numpy(rng.normal(-3.0, 1.0, len(amounts)))
    share = np.array([[some.get(z, 0) / sum(some.values()) for z in elements] for some in amounts])
    for formula, wanted in (("SrTiO3", (1, 1, 3)), ("Sr2TiO4", (2, 1, 4)), ("Sr7TiO", (7, 1, 1))):
        least = linprog(energy.numpy(), A_eq=share.T, b_eq=np.array(wanted) / sum(wanted))
        found = convex_hull(
            Target.parse(formula), known, energy, [LABEL], list(map(str, range(len(amounts))))
        )
        assert found.energy == pytest.approx(least.fun, abs=1e-8)
        # pymatgen's own diagram of all the crystals, none left out
        compositions = [Composition({Element.from_Z(z): n for z, n in some.items() if n}) for some in amounts]
        entries = [
            PDEntry(composition, composition.num_atoms * float(energy[k]), name=str(k))
            for k, composition in enumerate(compositions)
        ]
        diagram = PhaseDiagram(entries)
        apart = diagram.get_decomposition(Composition(formula))
        assert {p.id: p.share for p in found.products} == {e.name: pytest.approx(n) for e, n in apart.items()}
        for phase in found.phases:
            entry = entries[int(phase.id)]
            assert phase.above_hull_ev_per_atom == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-9)
            assert phase.formation_ev_per_atom == pytest.approx(diagram.get_form_energy_per_atom(entry))
        # what it decomposes into has its atoms
        whole = sum((Composition(p.formula) * p.amount for p in found.products), Composition({}))
        assert whole.almost_equals(Composition(formula), rtol=1e-6)


def test_labels_are_never_mixed_and_elements_never_missing() -> None:
    known, energy = phases({11: 1}, {17: 1}), torch.tensor([-1.0, -2.0])
    with pytest.raises(LabelError):
        convex_hull(Target.parse("NaCl"), known, energy, [LABEL, Label("PBE", "none", "other")])
    with pytest.raises(ContractError, match="each element"):
        convex_hull(Target.parse("NaCl"), known[[0]], energy[[0]], [LABEL])


# -- the references -----------------------------------------------------------------------------------


def library(tmp_path: Path) -> Library:
    """Na in six volumes, Cl, NaCl twice, CsCl and Na3Cl: written and read as people's libraries are."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    crystals = {
        **{f"na{k}": bulk("Na", "bcc", a=a) for k, a in enumerate((3.0, 3.6, 4.2, 4.8, 5.4, 6.0))},
        "cl": bulk("Cl", "fcc", a=3.1),
        "nacl": bulk("NaCl", "rocksalt", a=5.3, cubic=True),
        "nacl2": bulk("NaCl", "cesiumchloride", a=3.1),
        "cscl": bulk("CsCl", "cesiumchloride", a=4.1),
        "na3cl": Atoms("Na3Cl", scaled_positions=FCC, cell=[4.6] * 3, pbc=True),
    }
    for name, atoms in crystals.items():
        atoms.write(folder / f"{name}.cif")
    import_structures(folder, tmp_path / "own.parquet", source_name="test", licence="none")
    return Library.open(tmp_path / "own.parquet")


class Counting(LennardJones):
    """Counts the crystals that it evaluates."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluated = 0

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        self.evaluated += len(crystals)
        return super().evaluate(crystals, forces=forces)


def test_references_are_of_the_sub_systems_elements_first(tmp_path: Path) -> None:
    known = library(tmp_path)
    references = References.of(Target.parse("Na2Cl"), known, tmp_path)
    # elements, then by cell size, then name; nothing with Cs
    assert references.formulas == ["Cl", "Na", "NaCl", "Na3Cl"]
    assert references.forewarning == []
    assert set(references.names.values()) == {*(f"na{k}" for k in range(6)), "cl", "nacl", "nacl2", "na3cl"}
    own = References.of(Target.parse("Na3Cl"), known, tmp_path)
    assert own.formulas == ["Cl", "Na", "Na3Cl", "NaCl"]  # the target's own before others
    assert [len(entries) for entries in references.entries] == [1, 6, 2, 1]
    assert references.entries[2].n_atoms.tolist() == [2, 2]  # primitive
    target = Target.parse("NaCl")
    excluded = References.of(target, known.excluding(target), tmp_path)
    assert excluded.formulas == ["Cl", "Na", "Na3Cl"]


def test_the_model_chooses_and_each_reference_is_relaxed_once(tmp_path: Path) -> None:
    references = References.of(Target.parse("NaCl"), library(tmp_path), tmp_path)
    model = Counting()
    ids, ends = references.relax(range(3), model, pressure=0.0)
    assert len(ids) == 1 + 3 + 2
    sodium = references.entries[1]
    energy = LennardJones().evaluate(sodium).energy
    assert [sodium.ids().index(i) for i in ids[1:4]] == energy.argsort()[:3].tolist()
    assert model.evaluated > 6

    again = Counting()
    same_ids, same = references.relax([2, 0, 1], again, pressure=0.0)
    assert again.evaluated == 0
    assert sorted(same_ids) == sorted(ids)
    assert same.label == ends.label
    assert torch.equal(same.energy[2:], ends.energy[:4])
    assert same.crystals.ids() == ends.crystals.ids()[4:] + ends.crystals.ids()[:4]
    assert same.status == ends.status[4:] + ends.status[:4]
    # other conditions and other models are other energies
    assert references.relax([0], again, pressure=5.0)[0]
    assert again.evaluated > 0

    class Other(LennardJones):
        label = Label("LJ", "other", "1")

    assert references.relax([0], Other(), pressure=0.0)[1].label == Other.label
    assert not list(tmp_path.glob("references/**/*.part"))


def test_a_kept_file_of_another_label_is_refused(tmp_path: Path) -> None:
    references = References.of(Target.parse("NaCl"), library(tmp_path), tmp_path)
    references.relax([0], LennardJones(), pressure=0.0)
    (path,) = (tmp_path / "references").glob("*/*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        kept = dict(arrays)
    np.savez(path, **{**kept, "label": np.array(["PBE", "none", "x"])})
    with pytest.raises(LabelError, match="PBE/none/x"):
        references.relax([0], LennardJones(), pressure=0.0)


Ends = tuple[list[str], RelaxationResult, torch.Tensor]


def ends_of(references: References, status: list[Status]) -> Ends:
    """One end of each composition, −1 eV/atom each, with these statuses."""
    crystals = Crystals.cat([entries[[0]] for entries in references.entries])
    n = crystals.n_atoms
    energy = torch.where(
        torch.tensor([s in (Status.CONVERGED, Status.MAX_STEPS) for s in status]), -1.0 * n, torch.nan
    )
    relaxed = RelaxationResult(crystals, LABEL, energy.double(), energy, n, status)
    return crystals.ids(), relaxed, energy / n


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    known = library(tmp_path)
    done, stopped, lost = Status.CONVERGED, Status.MAX_STEPS, Status.EXPLODED
    references = References.of(Target.parse("NaCl"), known, tmp_path)
    found, notes = references.hull(*ends_of(references, [done, done, done, stopped]), LABEL)
    assert found is not None
    assert found.energy == pytest.approx(-1.0)
    assert {p.id for p in found.phases} == {"cl", "na0", "nacl", "na3cl"}
    assert notes == ["Hull: 4 reference crystals of 4 compositions, 1 of them not relaxed to the end."]

    found, notes = references.hull(*ends_of(references, [done, done, lost, done]), LABEL)
    assert found is None
    assert notes[-1] == "There is no energy above the hull: no crystal of NaCl could be relaxed."

    with_lithium = References.of(Target.parse("LiNaCl2"), known, tmp_path)
    assert len(with_lithium) == 0  # nothing is relaxed in vain
    why = ["There is no energy above the hull: the library has no entry of Li."]
    assert with_lithium.forewarning == why
    assert with_lithium.hull(*ends_of(references, [done] * 4), LABEL) == (None, why)
    with pytest.raises(LabelError):
        references.hull(*ends_of(references, [done] * 4), Label("PBE", "none", "1"))


def test_neighbours_without_a_compound_are_told_before(tmp_path: Path) -> None:
    known = library(tmp_path)
    bare = References.of(
        Target.parse("NaCl"), known.excluding(*map(Target.parse, ("NaCl", "Na3Cl"))), tmp_path
    )
    assert bare.forewarning == [
        "Hull: the library has no compound of Na-Cl; if there is one, the hull may be lower."
    ]
    found, notes = bare.hull(*ends_of(bare, [Status.CONVERGED] * 2), LABEL)
    assert found is not None
    assert notes[1:] == bare.forewarning


def test_known_compounds_that_the_library_lacks_are_told_before(tmp_path: Path) -> None:
    """A library with an oxide of titanium, but not with rutile, which SrTiO3 could decompose into."""
    cells = {"Sr": "fcc", "Ti": "bcc", "O": "sc", "TiO": "rocksalt", "SrO": "rocksalt"}
    folder = tmp_path / "oxides"
    folder.mkdir()
    for formula, structure in cells.items():
        bulk(formula, structure, a=4.5).write(folder / f"{formula}.cif")
    import_structures(folder, tmp_path / "oxides.parquet", source_name="test", licence="none")
    known = Library.open(tmp_path / "oxides.parquet")
    *_, said = References.of(Target.parse("SrTiO3"), known, tmp_path).forewarning
    named = said.removeprefix("Hull: the library has no ").partition(", of which the AFLOW encyclopedia")[0]
    assert "TiO2" in named.split(", ")
    assert not {"SrTiO3", "TiO", "SrO", "CaTiO3"} & set(named.split(", "))


def test_compounds_that_are_too_many_or_in_too_large_cells_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = library(tmp_path)
    monkeypatch.setattr("csp.ranking.references.MAX_ATOMS", 2)
    small = References.of(Target.parse("NaCl"), known, tmp_path)
    assert small.formulas == ["Cl", "Na", "NaCl"]
    said = "Hull: the library has only cells of more than 2 atoms of Na3Cl; they are left out."
    assert small.forewarning == [said]
    assert said in small.hull(*ends_of(small, [Status.CONVERGED] * 3), LABEL)[1]
    monkeypatch.setattr("csp.ranking.references.MAX_ATOMS", 60)
    monkeypatch.setattr("csp.ranking.references.COMPOSITIONS", 3)
    few = References.of(Target.parse("NaCl"), known, tmp_path)
    assert few.formulas == ["Cl", "Na", "NaCl"]
    _, notes = few.hull(*ends_of(few, [Status.CONVERGED] * 3), LABEL)
    assert notes[1] == "Hull: 1 further compositions, less stable or of larger cells, are left out."


def with_distances(known: Library, **distances: float) -> Library:
    about = [distances.get(str(name)) for name in known.material_id]
    return replace(known, about={"e_above_hull": np.array(about, dtype=object)})


def test_published_distances_choose(tmp_path: Path) -> None:
    """Of each composition what may be the lowest; whole compositions only if they may be on the hull."""
    sodium = {"na0": 0.3, "na1": 0.31, "na2": 0.32, "na3": 0.33, "na5": 0.9}
    known = with_distances(library(tmp_path), **sodium, cl=0.2, nacl=0.0, nacl2=0.2, na3cl=0.06)
    references = References.of(Target.parse("Na2Cl"), known, tmp_path)
    assert references.formulas == ["Cl", "Na", "NaCl"]
    named = [[references.names[i] for i in entries.ids()] for entries in references.entries]
    assert named == [["cl"], ["na0", "na1", "na2"], ["nacl"]]
    _, notes = references.hull(*ends_of(references, [Status.CONVERGED] * 3), LABEL)
    assert notes[1].startswith("Hull: 1 compositions that are more than 50 meV/atom above the hull of the")
    # the target's own entries are on the hull whatever is published, unless they are excluded
    own = Target.parse("Na3Cl")
    assert References.of(own, known, tmp_path).formulas == ["Cl", "Na", "Na3Cl", "NaCl"]
    assert References.of(own, known.excluding(own), tmp_path).formulas == ["Cl", "Na", "NaCl"]
    # under pressure others are stable
    pressed = References.of(Target.parse("Na2Cl", pressure=20.0), known, tmp_path)
    assert [len(entries) for entries in pressed.entries] == [1, 6, 2, 1]


def test_what_stands_for_others_or_is_there_twice_is_no_reference(tmp_path: Path) -> None:
    known = library(tmp_path)
    marked = np.array([True if str(n) == "na3cl" else None for n in known.material_id], dtype=object)
    twice = np.array(["nacl" if str(n) == "nacl2" else None for n in known.material_id], dtype=object)
    known = replace(known, about={"stand_in": marked, "duplicate_of": twice})
    references = References.of(Target.parse("NaCl"), known, tmp_path)
    assert references.formulas == ["Cl", "Na", "NaCl"]
    assert len(references.entries[2]) == 1


# -- in a search ----------------------------------------------------------------------------------------


def search(
    folder: Path,
    references: References | None,
    model: LennardJones | None = None,
    generator: Generator | None = None,
) -> Search:
    fewer = {"candidates": 6, "screened": 4, "relaxed": 3, "rattled": 0, "max_steps": 20}
    settings = SETTINGS.model_copy(update={**fewer, "hull": references is not None})
    store = Store.begin(folder, {"of": "the same"}, formula="NaCl", versions={}, resume=True)
    models = [model or LennardJones()]
    generators = [generator or Strained()]
    return Search(settings, settings.target(), generators, models, 16.0, store, references=references)


def test_a_search_tells_what_is_above_the_hull(tmp_path: Path) -> None:
    """Also when the hull is asked for after the search, and after an interruption among the references."""
    target = Target.parse("NaCl")
    known = library(tmp_path).excluding(target)
    references = References.of(target, known, tmp_path / "cache")
    whole = search(tmp_path / "run", references).run()
    ids, ends = search(tmp_path / "run", references).store.relaxed("hull", LABEL)
    assert len(ids) == 1 + 3 + 1
    per_atom = ends.energy / ends.crystals.n_atoms
    share = [(ends.crystals[k].numbers == 11).double().mean() for k in range(len(ids))]
    least = linprog(per_atom.numpy(), A_eq=[np.ones(len(ids)), share], b_eq=[1.0, 0.5])
    assert whole.has_hull
    for result in whole.results:
        assert result.e_above_hull_ev_per_atom == pytest.approx(
            result.energy_ev_per_atom - least.fun, abs=1e-8
        )
        assert result.stability == whole.hull.words(result.e_above_hull_ev_per_atom)
    assert whole.results[0].e_above_hull_ev_per_atom < 0  # left out itself, and stable
    assert " below the hull of what the library holds: " in whole.results[0].stability
    table = whole.table()
    to_hull = [row[table.columns.index("hull")] for row in table.rows]
    assert to_hull[0].endswith(" below")
    assert "-" not in "".join(to_hull)
    assert whole.decomposition == whole.hull.decomposition
    assert any(line.startswith("Hull: 5 reference crystals of 3 compositions") for line in whole.warnings)

    later = tmp_path / "later"
    assert not search(later, None).run().has_hull
    elsewhere = References.of(target, known, tmp_path / "other cache")
    with pytest.raises(KeyboardInterrupt):
        search(later, elsewhere, Interrupting(3)).run()
    partial = search(later, elsewhere).conclude()
    assert not partial.has_hull
    assert "not all relaxed yet" in partial.warnings[-1]
    assert search(later, elsewhere).run().results == whole.results


def test_no_entry_of_the_target_is_below_the_hull_that_it_is_on(tmp_path: Path) -> None:
    """Those that are no reference are on it as the search relaxed them."""
    target = Target.parse("NaCl")
    references = References.of(target, library(tmp_path).excluding(target), tmp_path / "cache")
    found = search(tmp_path / "run", references, generator=Known()).run()
    above = {r.template_id: r.e_above_hull_ev_per_atom for r in found.results if r.template_id}
    assert {"mine-0", "mine-1"} <= above.keys()
    assert found.hull is not None
    [product] = found.hull.products
    assert above[product.id] == pytest.approx(0.0, abs=1e-9)
    assert min(above[name] for name in ("mine-0", "mine-1")) > -1e-9


def test_a_library_without_any_reference_is_told(tmp_path: Path) -> None:
    known = library(tmp_path)
    nothing = References.of(Target.parse("NaCl"), known.hiding(known.all_rows()), tmp_path)
    run = search(tmp_path / "run", nothing)
    run.hull()
    why = "There is no energy above the hull: the library has no entry of Na, Cl."
    assert run.conclude().warnings == [why]
