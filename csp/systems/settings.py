"""Settings of an exploration: frozen, validated once, saved with what they produced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS, LibraryFile, Names, SearchSettings
from csp.systems.acquisition import LEVELS, Level
from csp.systems.system import ChemicalSystem
from csp.systems.wish import Wish
from csp.wrong_values import first_wrong

__all__ = ["ExploreSettings"]

ROUNDS = 3  # of a deep search
KEPT = 100  # `top`: crystals of a composition that are kept, at most
KEPT_QUICK = 10  # where the hull is of another model: its lowest tells whether to search deeper


def _listed(value: Any) -> Any:
    """Lists may be written "a,b"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_listed)]


class ExploreSettings(BaseModel):
    """All that decides what is found in a system, machine and files aside."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    system: str = Field(
        min_length=1,
        max_length=400,
        title="System",
        description="Elements (Li-P-S), compounds with all between them (Li2S-P2S5), a host and a further "
        "element (LiFePO4 with Na), or formulas (Li3PS4,Li7P3S11)",
    )
    max_atoms: int = Field(
        12, ge=2, le=60, title="Largest formula", description="Atoms in a formula unit, at most"
    )
    searches: int = Field(60, ge=1, le=100_000, title="Searches", description="At most so many")
    minutes: float = Field(
        90.0, gt=0, le=100_000, title="Minutes", description="After which no further search begins"
    )
    least_gain: float = Field(
        0.5,
        ge=0,
        le=1000,
        title="Least gain",
        description="meV/atom: no search is made that is expected to lower the hull by less",
    )
    within: float = Field(
        50.0,
        ge=0,
        le=1000,
        title="Within",
        description="meV/atom above the hull, up to which phases are told and a wish is looked for",
    )
    depth: Literal["quick", "standard", "deep"] = Field(
        "deep", title="Depth", description="Of the deepest searches"
    )
    spread: Literal["gain", "even"] = Field(
        "gain",
        title="Spread",
        description="Searches go where they are expected to gain most; even: one for each composition by the "
        "model of the hull, the likeliest first and known ones last, and then deeper ones",
    )
    wish: str = Field(
        "",
        max_length=200,
        title="For",
        description="Order what is near the hull by a property: bulk_modulus max, band_gap 1.1..1.6 or "
        "another with a model in `csp models list`, density min, volume_per_atom 10..12, or a Python "
        "function of a pymatgen structure, module:function max",
    )
    exclude: Texts = Field(
        (),
        title="Exclude",
        description="Leave these out of the library: formulas, or systems (Li-P-S: all that holds all three)",
    )
    earlier: Paths = Field(
        (), title="Earlier", description="Folders of other explorations, whose searches count as done"
    )
    largest_cell: int = Field(
        40, ge=1, le=400, title="Largest cell", description="Atoms in the primitive cells that are proposed"
    )
    generators: Names = Field(
        DEFAULT_GENERATORS, min_length=1, title="Generators", description="Which generators propose"
    )
    surrogate: str = Field(
        "xs",
        min_length=1,
        title="Surrogate",
        description="Fast model: alone in quick searches, first in others; none: the relaxer does all",
    )
    relaxer: str = Field(
        "auto",
        min_length=1,
        title="Relaxer",
        description="Potential whose energies the hull is of; auto: the best that can be had; none: the "
        "surrogate's",
    )
    library: LibraryFile = Field(
        AUTO_LIBRARY,
        title="Library",
        description="Known crystals: auto, which is yours or what the Materials Project has; a Parquet file; "
        "none: the AFLOW prototypes, and no known phase",
    )
    offline: bool = Field(False, title="Offline", description="Ask nothing outside this machine")
    pressure: float = Field(
        0.0, ge=-50.0, le=1000.0, title="Pressure", description="GPa; the hull is of enthalpies"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Same seed, same result")

    @field_validator("wish")
    @classmethod
    def _some_property(cls, value: str) -> str:
        if value:
            Wish.parse(value)
        return value

    @classmethod
    def read(cls, **values: Any) -> ExploreSettings:
        """Validated settings.

        Raises:
            InputError: One sentence, for the first thing that is wrong.
        """
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            raise first_wrong(error) from error
        settings.search("Si", settings.levels[-1])  # what the settings of a search refuse
        return settings

    def chemical_system(self) -> ChemicalSystem:
        """What is explored.

        Raises:
            InputError: It is none.
        """
        return ChemicalSystem.parse(self.system)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of its searches, from the first to the deepest."""
        names = [level.name for level in LEVELS]
        return LEVELS[: names.index(self.depth) + 1]

    @property
    def two_models(self) -> bool:
        """Do quick searches have energies of another model than the others?"""
        return "none" not in (self.surrogate, self.relaxer)

    def search(self, formula: str, level: Level, *, exclude: bool = False) -> SearchSettings:
        """The search for one composition.

        Args:
            formula: Of the composition.
            level: How deep.
            exclude: Without the library's crystals of this composition.
        """
        quick = level.name == "quick"
        return SearchSettings.read(
            formula=formula,
            effort=level.name,
            generators=self.generators,
            surrogate=self.surrogate,
            relaxer="none" if quick and self.two_models else self.relaxer,
            library=self.library,
            exclude_composition=exclude,
            max_atoms=max(self.largest_cell, _size(formula)),
            pressure=self.pressure,
            order="energy",
            top=KEPT_QUICK if quick and self.two_models else KEPT,
            offline=self.offline,
            seed=self.seed,
            **({"rattled": 0} if quick else {}),
            **({"max_rounds": ROUNDS} if level.name == "deep" else {}),
        )


def _size(formula: str) -> int:
    from csp.formula import read_formula

    return sum(read_formula(formula).counts.values())
