"""What people bring, made and mutated at random, and all that reads it.

Whatever an input is, each reader reads it or refuses it by a `CspError` whose message is one sentence in one
line: any other exception would reach a person as a traceback.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import write
from hypothesis import strategies as st
from pymatgen.io.cif import CifWriter

from csp.cell_file import read_cell
from csp.crystals import Crystals
from csp.diffraction.read import read_pattern
from csp.errors import CspError
from csp.formula import read_formula
from csp.library.cif import read_cif, read_cifs
from csp.library.energies import read_energies
from csp.library.importing import import_structures
from csp.library.library import Library
from csp.report.match import match
from csp.report.results import RankedRun, export, latest
from csp.settings import SearchSettings
from csp.target import Target
from flows.many import read_formulas
from surrogates.properties.own_data import read_own_data
from surrogates.training.label_files import read_labels
from tests.fuzz.mutations import JSON, damaged, mutated
from tests.places import SHARED

__all__ = ["TARGETS", "Fuzzed"]

LONGEST = 2000  # characters of a message

Reader = Callable[[], object]
SALT, SILICON, WATER = bulk("NaCl", "rocksalt", 5.6), bulk("Si"), molecule("H2O")


@dataclass(frozen=True)
class Fuzzed:
    """A kind of input.

    Attributes:
        inputs: A strategy for it.
        readers: Given an input and an empty folder, all that is to read it.
        seeds: Inputs that once ended in a traceback.
    """

    inputs: st.SearchStrategy[Any]
    readers: Callable[[Any, Path], Iterator[Reader]]
    seeds: tuple[Any, ...] = ()

    def check(self, given: Any) -> None:
        """AssertionError where a refusal is not one sentence in one line; all else is raised as it comes."""
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in self.readers(given, Path(folder)):
                said = ""
                try:
                    read()
                except CspError as error:
                    said = str(error) or "nothing"
                assert not said or said.endswith((".", "?")), said
                assert "\n" not in said, said
                assert len(said) < LONGEST, said


def file(name: str, content: str | bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def imported(path: Path) -> None:
    import_structures(path, path.with_name("out.parquet"), source_name="a", licence="b")


# -- formulas, settings and lists ---------------------------------------------------------------------

SYMBOLS = """
H O Na Cl Fe Sr Ti Co D T Xx x 0 1 2 03 0.5 2.5 ½ ( ) [ ] { } . · • * + - 2- ^ _ ₂ ³⁺ (III)
H2O 5H2O CaSO4 NH4 / 1/2 <sub>2</sub> $ \\ é 🜚 ١ ²
"""
PIECES = [*SYMBOLS.split(), " ", "\n", "\u200b"]
FORMULAS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=40)
VALUES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    st.lists(st.integers(-5, 300) | st.text(max_size=5), max_size=4),
    st.sampled_from(["1,2,3", "cubic", "none", "/", ".", "~", "template,random", "1e3", "\0", [], {}]),
)
SETTINGS = st.dictionaries(st.sampled_from([*SearchSettings.model_fields, "nonsense"]), VALUES, max_size=5)
ROWS = st.lists(st.text(max_size=10), max_size=6)
LISTS = st.one_of(
    st.binary(max_size=60),
    ROWS.map(lambda rows: "\n".join(["formula", *rows]).encode("utf-8", "replace")),
    ROWS.map(lambda rows: "\n".join(rows).encode("utf-16", "replace")),
)


def of_formula(text: str, folder: Path) -> Iterator[Reader]:
    def written_back() -> None:
        formula = read_formula(text)
        assert dict(read_formula(str(formula)).counts) == dict(formula.counts)

    yield partial(Target.parse, text)
    yield lambda: SearchSettings.read(formula=text).target()
    yield written_back


def of_settings(values: dict[str, Any], folder: Path) -> Iterator[Reader]:
    yield lambda: SearchSettings.read(**{"formula": "NaCl", **values}).target()


def of_list(content: bytes, folder: Path) -> Iterator[Reader]:
    yield partial(read_formulas, file("a.csv", content, folder))


# -- crystals -----------------------------------------------------------------------------------------

TAGS = """
data_b loop_ save_ stop_ _cell_length_a _cell_angle_gamma 120 180 62 227 4 0.5 0.33333 1.5 12.5(3) _
_symmetry_space_group_name_H-M _space_group_IT_number _space_group_name_Hall 'x,y,z' -x,y+1/0,z
_symmetry_equiv_pos_as_xyz _atom_site_type_symbol _atom_site_fract_x _atom_site_occupancy
Na OH NH4 O2- D X _chemical_formula_sum _cell_formula_units_Z
"""
NAMES = ["_cell_length_a 5", "'P 1'", "'F d -3 m'", "'R -3 c'", "'P 21/n'", "'-F 4 2 3'", "'H2 O'"]
CIF_WORDS = [*TAGS.split(), *NAMES]
FRAME_WORDS = ["2", "3", "energy=abc", "energy=", "energy=[1,2]", 'Lattice="1 2 3"', 'pbc="T T F"', "Na"]


def _cifs() -> list[str]:
    pair = Crystals.from_atoms([SALT, bulk("Mg", "hcp", 3.2, 5.2)]).structures()
    made = [str(CifWriter(structure, symprec=symprec)) for structure in pair for symprec in (None, 0.01)]
    folders = [SHARED / "reports" / "cif", SHARED / "data" / "benchmark35"]
    real = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.[cC][iI][fF]"))]
    return made + [path.read_text(encoding="utf-8-sig") for path in real]


def _frames() -> str:
    text, frames = io.StringIO(), [SALT.copy(), SILICON.copy()]
    for atoms in frames:
        atoms.info = {"energy": -1.5, "functional": "PBE", "code": "a"}
    write(text, frames, format="extxyz")
    return text.getvalue()


def _database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        with connect(path) as database:
            for atoms in (SALT, SILICON, WATER):
                database.write(atoms)
        return path.read_bytes()


def of_cif(text: str, folder: Path) -> Iterator[Reader]:
    path = file("a.cif", text, folder)

    def sound() -> None:
        for crystal in read_cifs(path).values():
            if isinstance(crystal, Crystals):
                assert crystal.frac.isfinite().all()
                assert float(crystal.volumes[0]) > 0

    yield sound
    yield partial(read_cif, path)
    yield partial(read_cell, path)
    yield partial(imported, folder)


def of_frames(text: str, folder: Path) -> Iterator[Reader]:
    path = file("a.extxyz", text, folder)
    yield partial(read_labels, [path], functional=None)
    yield partial(imported, path)
    yield partial(read_cell, path)


def of_database(content: bytes, folder: Path) -> Iterator[Reader]:
    yield partial(imported, file("a.db", content, folder))


# -- tables -------------------------------------------------------------------------------------------

ROW = {
    "material_id": "a",
    "formula": "CsCl",
    "spacegroup": 221,
    "cell": [4.1, 0.0, 0.0, 0.0, 4.1, 0.0, 0.0, 0.0, 4.1],
    "numbers": [55, 17],
    "frac_coords": [0.0, 0.0, 0.0, 0.5, 0.5, 0.5],
    "formation_energy": -2.0,
    "split": "train",
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of a library with columns left out, or of other types and lengths."""
    row = dict(ROW)
    for name in draw(st.lists(st.sampled_from(list(ROW)), max_size=3)):
        number, several = st.integers(-3, 300), st.lists(st.floats(), min_size=6, max_size=9)
        value = draw(
            st.none() | number | st.floats() | st.text(max_size=3) | st.lists(number, max_size=9) | several
        )
        row.update({name: value})
    for name in draw(st.lists(st.sampled_from(list(ROW)), max_size=2)):
        row.pop(name, None)
    return [row] * draw(st.integers(0, 3))


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows or [{}]), buffer)
    return buffer.getvalue()


def of_rows(rows: list[dict[str, Any]], folder: Path) -> Iterator[Reader]:
    return of_table(_parquet(rows), folder)


def of_table(content: bytes, folder: Path) -> Iterator[Reader]:
    path = file("a.parquet", content, folder)
    yield lambda: str(Library.open(path).info())
    yield lambda: Library.open(path).excluding(Target.parse("CsCl"))
    yield partial(read_energies, path)
    yield partial(read_energies, path, "train")
    yield partial(imported, path)


SOLIDS = ["NaCl", "KCl", "LiF", "MgO", "CaO", "SrO", "BaO", "ZnS", "ZnO", "GaAs", "InP", "AlN"]
OWN = "\n".join(f"{formula},{k}.5,0.1,GPa" for k, formula in enumerate(SOLIDS, start=-2))
OWN_WORDS = ["value", "sigma", "unit", "structure", "formula", "a.csv", "nan", "1e999", '"', "Xx2", "K"]


def of_own_values(text: str, folder: Path) -> Iterator[Reader]:
    path = file("a.csv", text, folder)
    yield partial(read_own_data, path)
    yield partial(read_own_data, path, unit="GPa")


# -- powder patterns ----------------------------------------------------------------------------------

POINTS = 120
PLAIN = "\n".join(f"{15 + 0.1 * k:.2f} {50 + 900 * (k == 60) + k % 7}" for k in range(POINTS))
COUNTS = " ".join(str(50 + 900 * (k == 60) + k % 7) for k in range(POINTS))
HEADED = [
    f"# Wavelength: 1.5406\n{PLAIN}",
    f"; a\n_ANODE='Cu'\n_WL1=1.5406\n_WL2=1.54439\n_STEPSIZE=0.1\n_START=15.0\n_COUNTS\n{COUNTS}",
    f'*RAS_DATA_START\n*HW_XG_TARGET_NAME "Co"\n*RAS_INT_START\n{PLAIN}\n*RAS_INT_END\n',
    f"15.0 0.1 {15 + 0.1 * (POINTS - 1):.1f} a sample\n{COUNTS}",
    f"""<?xml version="1.0"?>
<xrdMeasurements xmlns="http://www.xrdml.com/XRDMeasurement/1.5"><xrdMeasurement>
<usedWavelength intended="K-Alpha">
<kAlpha1 unit="Angstrom"> 1.5405980 </kAlpha1>
<kAlpha2 unit="Angstrom"> 1.5444260 </kAlpha2>
<ratioKAlpha2KAlpha1> 0.5 </ratioKAlpha2KAlpha1>
</usedWavelength>
<scan><dataPoints><positions axis="2Theta" unit="deg">
<startPosition> 15.0 </startPosition>
<endPosition> 26.9 </endPosition>
</positions>
<beamAttenuationFactors> {" ".join(["1.0"] * POINTS)} </beamAttenuationFactors>
<counts unit="counts"> {COUNTS} </counts>
</dataPoints></scan></xrdMeasurement></xrdMeasurements>""",
]
SCAN_WORDS = ["1.54", "2Theta", "CuKa", "_START=x", "_STEPSIZE=0", "15,5", "1;2;3", "<a>", "</scan>"]


def of_pattern(text: str, folder: Path) -> Iterator[Reader]:
    path = file("a.xy", text, folder)
    yield partial(read_pattern, path)
    yield partial(read_pattern, path, "CuKa", "16-30")
    yield lambda: read_pattern(path, "CuKa").even()


# -- rankings -----------------------------------------------------------------------------------------

RESULT = {
    "rank": 1, "id": "a" * 32, "file": "structures/001.cif", "n_atoms": 2, "spacegroup": "Fm-3m",
    "spacegroup_number": 225, "energy_ev_per_atom": -3.5, "enthalpy_ev_per_atom": -3.5, "density": 2.1,
    "sigma_ev_per_atom": None, "volume_per_atom": 22.0, "status": "converged", "generator": "template",
    "template_id": "a", "wyckoff": "Na:a Cl:b", "n_duplicates": 0, "above_lowest_ev_per_atom": 0.0,
}  # fmt: skip
RANKED = {
    "formula": "NaCl", "label": "PBE/none/chgnet-0.3.0", "models": ["chgnet"], "order": "energy",
    "pressure_gpa": 0.0, "results": [RESULT], "unranked": {}, "failed": {}, "warnings": [],
    "funnel": {"proposed": 5, "improved": 3, "finished": 2, "ranked": 1},
}  # fmt: skip


@st.composite
def rankings(draw: st.DrawFn) -> str:
    """A `ranked.json` of this schema or an older one, with keys left out and values of other kinds."""
    ranked: dict[str, Any] = {"schema": draw(st.sampled_from([3, 3, 2, 1, 4, "3", None])), **RANKED}
    ranked["results"] = [dict(RESULT)] * draw(st.integers(0, 2))
    for where in draw(st.lists(st.sampled_from([ranked, *ranked["results"]]), max_size=3)):
        name = draw(st.sampled_from(sorted(where) or ["rank"]))
        where.pop(name, None) if draw(st.booleans()) else where.update({name: draw(JSON)})
    text = json.dumps(draw(JSON) if draw(st.integers(0, 9)) == 0 else ranked)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 5)) == 0 else text


def of_ranking(text: str, folder: Path) -> Iterator[Reader]:
    run = folder / "run"
    run.mkdir()
    for name in ("ranked.json", "run.json"):
        file(name, text, run)
    file("ranked.csv", "rank\n", run)
    atoms = SALT.copy()
    atoms.info = {"rank": 1}
    write(run / "structures.extxyz", atoms)
    mine = file("mine.cif", str(CifWriter(Crystals.from_atoms([SALT]).structures()[0])), folder)
    yield lambda: str(match(mine, run))
    yield lambda: latest("NaCl", folder)
    yield lambda: export(RankedRun.read(run), folder / "a.db")
    yield lambda: export(RankedRun.read(run), folder / "a.extxyz")


TARGETS = {
    "formulas": Fuzzed(FORMULAS, of_formula),
    "settings": Fuzzed(SETTINGS, of_settings),
    "lists": Fuzzed(LISTS, of_list),
    "cifs": Fuzzed(mutated(_cifs(), CIF_WORDS), of_cif),
    "frames": Fuzzed(
        mutated([_frames()], FRAME_WORDS), of_frames, seeds=(f"{10**19}\na\n", "9" * 5000 + "\na\n")
    ),
    "databases": Fuzzed(damaged(_database()), of_database),
    "rows": Fuzzed(tables(), of_rows),
    "tables": Fuzzed(damaged(_parquet([ROW])), of_table),
    "own values": Fuzzed(mutated([f"formula,value,sigma,unit\n{OWN}\n"], OWN_WORDS), of_own_values),
    "patterns": Fuzzed(mutated(HEADED, SCAN_WORDS), of_pattern),
    "rankings": Fuzzed(rankings(), of_ranking),
}
