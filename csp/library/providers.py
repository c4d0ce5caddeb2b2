"""Who serves crystals over OPTIMADE: their addresses, licences and the names of their own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csp.errors import InputError

__all__ = ["LIST", "PROVIDERS", "Provider"]

LIST = "https://providers.optimade.org/v1/links"
"""Where a provider that is not among `PROVIDERS` is looked for."""

CC_BY = "CC BY 4.0"

Field = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    """One database.

    Attributes:
        name: Short name, by which people ask for it and ids are told apart.
        base_url: Without the version.
        title: What the entries' `source` says.
        licence: Of the data; "" where it is not known and the database does not say.
        e_above_hull, formation_energy: Where its entries have them, eV/atom: keys to go down by. The first
            that an entry has counts.
        experimental: Were all its crystals made (True), none (False), or is it not known?
    """

    name: str
    base_url: str
    title: str
    licence: str = ""
    e_above_hull: tuple[Field, ...] = ()
    formation_energy: tuple[Field, ...] = ()
    experimental: bool | None = None

    @property
    def own_fields(self) -> tuple[str, ...]:
        """Fields of its own that it is asked for beside OPTIMADE's."""
        return tuple(dict.fromkeys(path[0] for path in (*self.e_above_hull, *self.formation_energy)))

    @classmethod
    def at(cls, url: str) -> Provider:
        """A database of which only the address is known.

        Raises:
            InputError: It is no address.
        """
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{url!r} is no address; write one such as https://optimade.materialsproject.org."
            )
        base = url.rstrip("/").removesuffix("/structures").removesuffix("/v1")
        known = next((p for p in PROVIDERS.values() if p.base_url == base), None)
        return known or cls(parts.netloc, base, base)

    def entry_id(self, own: str) -> str:
        """The provider's id with its name before it, unless it tells already: mp-149, oqmd:4061139."""
        return own if own.startswith(f"{self.name}-") else f"{self.name}:{own}"

    def energies(self, attributes: Mapping[str, Any]) -> tuple[float | None, float | None]:
        """Hull distance and formation energy of an entry, eV/atom; None where it has none."""
        return _first(attributes, self.e_above_hull), _first(attributes, self.formation_energy)


def _first(attributes: Mapping[str, Any], paths: tuple[Field, ...]) -> float | None:
    for path in paths:
        value: Any = attributes
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e3:
            return float(value)
    return None


def _by_functional(name: str) -> tuple[Field, ...]:
    """The Materials Project's hulls: the one with all functionals corrected onto one scale first."""
    kinds = ("gga_gga+u_r2scan", "r2scan", "gga_gga+u")
    return tuple(("_mp_stability", kind, name) for kind in kinds)


# Addresses as pymatgen 2026.10 lists them; fields as the databases' own code and clients name them
# (emmet-core 0.87 `OptimadeMaterialsDoc`, ml-evs/alexandria-optimade, qmpy's OPTIMADE serializer).
PROVIDERS = {
    p.name: p
    for p in (
        Provider(
            "mp",
            "https://optimade.materialsproject.org",
            "Materials Project",
            CC_BY,
            _by_functional("energy_above_hull"),
            _by_functional("formation_energy_per_atom"),
        ),
        Provider(
            "alexandria",
            "https://alexandria.icams.rub.de/pbe",
            "Alexandria (PBE)",
            CC_BY,
            (("_alexandria_hull_distance",),),
            (("_alexandria_formation_energy_per_atom",),),
            experimental=False,
        ),
        Provider(
            "oqmd",
            "https://oqmd.org/optimade",
            "Open Quantum Materials Database",
            CC_BY,
            (("_oqmd_stability",),),
            (("_oqmd_delta_e",),),
        ),
        Provider(
            "cod",
            "https://www.crystallography.net/cod/optimade",
            "Crystallography Open Database",
            "CC0 1.0",
            experimental=True,
        ),
        Provider(
            "jarvis",
            "https://jarvis.nist.gov/optimade/jarvisdft",
            "JARVIS-DFT",
            "public domain (NIST)",
            (("_jarvis_ehull",),),
            (("_jarvis_formation_energy_peratom",),),
        ),
        Provider(
            "odbx", "https://optimade.odbx.science", "Open Database of Xtals", CC_BY, experimental=False
        ),
        Provider(
            "gnome",
            "https://optimade-gnome.odbx.science",
            "GNoME",
            "CC BY-NC 4.0",
            (("_gnome_hull_distance",),),
            (("_gnome_formation_energy_per_atom",),),
            experimental=False,
        ),
        Provider("tcod", "https://www.crystallography.net/tcod/optimade", "Theoretical COD", "CC0 1.0",
                 experimental=False),
        Provider("mc3d", "https://aiida.materialscloud.org/mc3d/optimade", "Materials Cloud MC3D", CC_BY),
        Provider("omdb", "https://optimade.openmaterialsdb.se", "Open Materials Database"),
        Provider("nmd", "https://nomad-lab.eu/prod/rae/optimade", "NOMAD", CC_BY),
        Provider("aflow", "https://aflow.org/API/optimade", "AFLOW"),
    )
}  # fmt: skip
