"""Settings of a search: frozen, validated once, saved with what they produced.

The one source for the command line, the Prefect forms and the record of a run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from csp import plugins
from csp.cell_file import read_cell
from csp.errors import InputError
from csp.formula import plain
from csp.target import CRYSTAL_SYSTEMS, Target
from csp.wrong_values import first_wrong

__all__ = [
    "AUTO_LIBRARY",
    "DEFAULT_GENERATORS",
    "GENERATOR_NAMES",
    "GeneratorName",
    "LibraryFile",
    "SearchSettings",
    "generator_names",
]

GENERATOR_NAMES = ("template", "metric_learning", "space_group", "random")
DEFAULT_GENERATORS = ("template", "metric_learning", "space_group")
AUTO_LIBRARY = Path("auto")
NO_LIBRARY = "none"
WITHOUT_TEMPLATES = ("space_group", "random")
QUICK = {"candidates": 200, "screened": 600, "relaxed": 40, "refined": 12, "rattled": 1}
"""What a quick search has in the place of defaults."""
OF_DEEP = ("minutes", "until", "max_rounds")


def _split(value: Any) -> Any:
    """Lists may be written "a,b"."""
    return [part for part in value.replace(" ", "").split(",") if part] if isinstance(value, str) else value


def generator_names() -> tuple[str, ...]:
    """The engine's own, and those that other installed packages offer."""
    return tuple(dict.fromkeys((*GENERATOR_NAMES, *plugins.names(plugins.GENERATORS))))


def _known(what: str, names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    """Each once.

    Raises:
        ValueError: For the first that is not known.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no {what} {unknown[0]!r}; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(names))


class _Names:
    """In a JSON schema: one of the names of generators that there are when the schema is made."""

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(generator_names())}


GeneratorName = Annotated[str, _Names()]
Names = Annotated[tuple[GeneratorName, ...], BeforeValidator(_split)]
Phases = Annotated[tuple[str, ...], BeforeValidator(_split)]
SystemName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(CRYSTAL_SYSTEMS)})]
Systems = Annotated[tuple[SystemName, ...], BeforeValidator(_split)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_split)]
Groups = Annotated[tuple[Annotated[int, Field(ge=1, le=230)], ...], BeforeValidator(_split)]


def _file(value: Any) -> Any:
    """No file may be said in a word."""
    return None if str(value) == NO_LIBRARY else value


LibraryFile = Annotated[Path | None, BeforeValidator(_file)]


class SearchSettings(BaseModel):
    """Everything that decides the outcome of a search, machine and files aside."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    formula: Annotated[str, BeforeValidator(plain)] = Field(
        min_length=1,
        max_length=200,
        # for forms; `Target.parse` knows all that may be wrong
        pattern=r"^[(\[{ 0-9./½¼¾]*[A-Z][a-z]?(?:[A-Z][a-z]?|[0-9₀-₉.·•⋅∙・●*∗×‧⸱∘˙x/½¼¾(){}\[\] ])*$",
        title="Formula",
        description="Chemical formula, for example SrTiO3, Ba(FeAs)2 or CaSO4·2H2O",
    )
    generators: Names = Field(
        DEFAULT_GENERATORS,
        min_length=1,
        title="Generators",
        description="Which generators propose candidates",
    )
    effort: Literal["quick", "standard", "deep"] = Field(
        "standard",
        title="Effort",
        description="quick: a third of the work, where a number is not set otherwise; deep: the standard "
        "search, and then rounds that learn from what was found",
    )
    minutes: float = Field(
        30.0,
        gt=0,
        le=100_000,
        title="Minutes",
        description="After which a deep search begins no further round",
    )
    until: float = Field(
        0.9,
        gt=0,
        le=1,
        title="Until",
        description="Share of the low crystals that is found, by estimate, when a deep search ends; 1: never",
    )
    max_rounds: int = Field(
        10_000, ge=0, le=1_000_000, title="Most rounds", description="Rounds of a deep search, at most"
    )
    candidates: int = Field(
        500, ge=1, le=1_000_000, title="Candidates", description="Virtual crystals proposed per generator"
    )
    screened: int = Field(
        1500,
        ge=1,
        le=1_000_000,
        title="Screened",
        description="Distinct candidates given a single-point energy, the best of them are relaxed",
    )
    relaxed: int = Field(
        160,
        ge=1,
        le=100_000,
        title="Relaxed",
        description="Candidates to relax, by the surrogate if there is one",
    )
    refined: int = Field(
        40,
        ge=1,
        le=100_000,
        title="Refined",
        description="Of those that the surrogate relaxed, how many the relaxer relaxes on",
    )
    top: int = Field(20, ge=1, le=10_000, title="Top", description="Ranked crystals to report")
    order: Literal["probability", "energy"] = Field(
        "probability",
        title="Order",
        description="What ranks: the probability of being the ground truth, where it is calibrated for the "
        "energies of the relaxer (else they do), or the energies",
    )
    surrogate: str = Field(
        "xs",
        min_length=1,
        title="Surrogate",
        description="Fast model that screens and relaxes first: its name or file; none: the relaxer does all",
    )
    labeller: str = Field(
        "none",
        min_length=1,
        title="Labeller",
        description="What labels candidates for the surrogate to learn from: gpaw, or a potential instead",
    )
    labels: int = Field(24, ge=1, le=3000, title="Labels", description="Single-point energies to learn from")
    rounds: int = Field(
        2, ge=1, le=20, title="Rounds", description="In which they are chosen, each with what was learned"
    )
    relaxer: str = Field(
        "auto",
        min_length=1,
        title="Relaxer",
        description="Potential that refines and ranks, by name, or the folder of one of matgl; auto: "
        "nequix-oam-1 if it is here or can be had, else chgnet; none: the surrogate does all",
    )
    second_opinion: str = Field(
        "none",
        min_length=1,
        title="Second opinion",
        description="Another potential, asked for the energies of what is ranked: where the two disagree, "
        "differences are less sure; none: the surrogate alone is asked",
    )
    library: LibraryFile = Field(
        AUTO_LIBRARY,
        title="Library",
        description="Known crystals that templates come from: auto, which is yours (csp library use) or else "
        "what the Materials Project has for the formula; a Parquet file; none: the embedded AFLOW prototypes",
    )
    offline: bool = Field(
        False,
        title="Offline",
        description="Ask nothing outside this machine, neither for known crystals nor for a potential; what "
        "is here from before is used",
    )
    exclude_composition: bool = Field(
        False,
        title="Exclude composition",
        description="Leave out every library entry with the target's reduced formula",
    )
    max_atoms: int = Field(
        120, ge=1, le=400, title="Largest cell", description="Atoms in the primitive cell, at most"
    )
    z: int | None = Field(
        None,
        ge=1,
        le=400,
        title="Formula units",
        description="Formula units in the primitive cell; none: any",
    )
    space_groups: Groups = Field(
        (), title="Space groups", description="Propose only in these (numbers 1-230); none: in all"
    )
    exclude_space_groups: Groups = Field(
        (), title="Excluded space groups", description="Never propose in these"
    )
    crystal_systems: Systems = Field(
        (),
        title="Crystal systems",
        description="Propose only in groups of these, for example cubic; none: all",
    )
    cell: Path | None = Field(
        None,
        title="Cell",
        description="File whose cell, primitive or conventional, the proposals have (of space_group and "
        "random); relaxing may change it; none: any",
    )
    starts: Paths = Field(
        (),
        title="Starts",
        description="Files of crystals, or folders of other runs, a,b: what is in them is tried beside what "
        "is proposed, with the target's elements where they are others in the same amounts",
    )
    pressure: float = Field(
        0.0, ge=-50.0, le=1000.0, title="Pressure", description="GPa; ranks by enthalpy H = E + PV"
    )
    max_steps: int = Field(60, ge=0, le=10_000, title="Steps", description="Relaxation steps, at most")
    max_force: float = Field(
        0.05, gt=0, le=10, title="Largest force", description="eV/Å at which a relaxation has converged"
    )
    rattled: int = Field(
        2,
        ge=0,
        le=1000,
        title="Rattled",
        description="Best crystals to rattle (also in doubled cells) and relax without symmetry",
    )
    phonons: int = Field(
        0,
        ge=0,
        le=1000,
        title="Phonons",
        description="Of so many of the first crystals: are they stable against small displacements, what do "
        "imaginary modes lead to, and which order has warmth? 0: not asked",
    )
    phonon_length: float = Field(
        10.0,
        ge=3.0,
        le=50.0,
        title="Phonon supercell",
        description="Å, about the length of the supercells that phonons are computed in",
    )
    hull: bool = Field(
        True,
        title="Hull",
        description="Energies above the convex hull of what the library has of the elements, relaxed by "
        "the model that ranks; none where an element is missing",
    )
    xrd: Path | None = Field(
        None,
        title="Powder pattern",
        description="Measured powder pattern (xy, xye, csv, xrdml, ras …), which orders the crystals "
        "together with their energies; none: there is none",
    )
    wavelength: str | None = Field(
        None,
        min_length=1,
        title="Wavelength",
        description="Of the powder pattern: CuKa (both lines), CuKa1, CoKa … or Å; none: what its file says",
    )
    impurities: Phases = Field(
        (),
        title="Impurities",
        description="Other phases in the powder pattern's sample, formulas of the library's crystals or "
        "files, a,b; what is not named is tolerated",
    )
    properties: Phases = Field(
        (),
        title="Properties",
        description="Properties to foretell of what is ranked, a,b: bulk_modulus, band_gap and others that "
        "csp models list shows",
    )
    symprec: float = Field(0.1, gt=0, le=1, title="symprec", description="Å, for reported space groups")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Same seed, same result")

    @model_validator(mode="before")
    @classmethod
    def _quick(cls, values: Any) -> Any:
        """Forms and the command line give defaults like anything else: what is one gives way."""
        if not isinstance(values, dict) or values.get("effort") != "quick":
            return values
        less = {
            name: value
            for name, value in QUICK.items()
            if values.get(name) in (None, cls.model_fields[name].default)
        }
        return {**values, **less}

    @field_validator(*OF_DEEP)
    @classmethod
    def _only_deep(cls, value: float, info: ValidationInfo) -> float:
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("effort") != "deep" and value != default:
            raise ValueError(f"`{info.field_name}` is of a deep search; ask for `effort` deep")
        return value

    @field_validator("generators")
    @classmethod
    def _known_generators(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        given = tuple((info.context or {}).get("generators", ()))
        if set(names) <= {*GENERATOR_NAMES, *given}:
            return tuple(dict.fromkeys(names))  # what other packages offer is not even looked up
        return _known("generator", names, (*generator_names(), *given))

    @field_validator("crystal_systems")
    @classmethod
    def _known_systems(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known("crystal system", names, CRYSTAL_SYSTEMS)

    @field_validator("relaxer")
    @classmethod
    def _some_model(cls, relaxer: str, info: ValidationInfo) -> str:
        if relaxer == info.data.get("surrogate") == "none":
            raise ValueError("there is neither a `surrogate` nor a `relaxer`; name one, for example chgnet")
        return relaxer

    @field_validator("labeller")
    @classmethod
    def _something_to_adapt(cls, labeller: str, info: ValidationInfo) -> str:
        if labeller != "none" and info.data.get("surrogate") == "none":
            raise ValueError("labels are learned by a surrogate; name a `surrogate`")
        return labeller

    @field_validator("cell")
    @classmethod
    def _cells_without_templates(cls, cell: Path | None, info: ValidationInfo) -> Path | None:
        if cell is not None and set(info.data.get("generators", ())) - set(WITHOUT_TEMPLATES):
            raise ValueError("templates have cells of their own; ask for `generators` space_group,random")
        return cell

    @property
    def library_file(self) -> Path | None:
        """The library if it is a file that was named."""
        return None if self.library == AUTO_LIBRARY else self.library

    @field_validator("wavelength", "impurities")
    @classmethod
    def _of_a_pattern(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("xrd") is None:
            raise ValueError("this describes a powder pattern; name its file with `xrd`")
        return value

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the energy models, in the order of their work."""
        return tuple(name for name in (self.surrogate, self.relaxer) if name != "none")

    @classmethod
    def read(cls, given: Collection[str] = (), /, **values: Any) -> SearchSettings:
        """Validated settings. What no schema can check, such as unknown elements, `target` does.

        Args:
            given: Names of generators that come with the settings as objects.
            **values: Settings by name.

        Raises:
            InputError: One sentence, for the first thing that is wrong.
        """
        try:
            settings = cls.model_validate(values, context={"generators": tuple(given)})
        except ValidationError as error:
            wrong = first_wrong(error)
            if wrong.setting == "formula" and isinstance(formula := values.get("formula", ""), str):
                Target.parse(formula)  # has the better message
            raise wrong from error
        return settings

    def at(self, pressure: float | str | Iterable[float]) -> list[SearchSettings]:
        """These settings at each of several pressures, ascending; at one, a list of one.

        Args:
            pressure: GPa: a number, several numbers, or what is written "0,25,100".

        Raises:
            InputError: One of them is no number or out of range, or there is none.
        """
        if isinstance(pressure, str):
            pressure = pressure.replace(" ", "").split(",")  # type: ignore[assignment]  # checked below
        several = pressure if isinstance(pressure, Iterable) else [pressure]
        values = self.model_dump()
        read = [type(self).read(self.generators, **{**values, "pressure": one}) for one in several]
        if not read:
            raise InputError("names no pressure; give GPa, or several as 0,25,100.", setting="pressure")
        found = {one.pressure: one for one in read}
        return [found[gpa] for gpa in sorted(found)]

    def target(self) -> Target:
        """The target these settings ask for: parses the formula and reads the cell's file, so build it once.

        Raises:
            InputError: For a wrong formula, or a cell that cannot be read.
        """
        systems = self.crystal_systems or CRYSTAL_SYSTEMS
        allowed = frozenset(self.space_groups or range(1, 231)) - frozenset(self.exclude_space_groups)
        allowed &= frozenset(group for system in systems for group in CRYSTAL_SYSTEMS[system])
        return Target.parse(
            self.formula,
            max_atoms=self.max_atoms,
            z=self.z,
            space_groups=allowed if len(allowed) < 230 else None,
            pressure=self.pressure,
            cell=read_cell(self.cell) if self.cell else None,
        )
