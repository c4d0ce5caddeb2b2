"""What the Materials Project says of its entries beside their crystals, with the user's key.

Its OPTIMADE interface does not tell which crystals were only computed; `mp-api`, its own client, does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from csp.errors import MissingError, ProviderError
from csp.library.optimade import check_online
from csp.library.rows import Entry

__all__ = ["own_fields"]

FIELDS = ["material_id", "energy_above_hull", "formation_energy_per_atom", "theoretical"]

Summaries = Callable[[Sequence[str]], Iterable[Any]]
"""Ids to documents with the attributes of `FIELDS`."""


def own_fields(key: str, ask: Summaries | None = None) -> Callable[[Sequence[Entry]], list[Entry]]:
    """Adds to entries their energies above the hull and whether they were made.

    Args:
        key: The user's.
        ask: Takes the place of the client, in tests.

    Raises:
        MissingError: mp-api is not installed.
    """
    summaries = ask or _client(key)

    def enrich(entries: Sequence[Entry]) -> list[Entry]:
        names = [entry.name for entry in entries]
        try:
            known = {str(one.material_id): one for one in summaries(names)} if names else {}
        except Exception as error:  # mp-api raises its own and those of its parts
            raise ProviderError(f"The Materials Project does not answer with this key: {error}") from error
        return [_with(entry, known.get(entry.name)) for entry in entries]

    return enrich


def _with(entry: Entry, summary: Any) -> Entry:
    if summary is None:
        return entry
    said = {
        "e_above_hull": summary.energy_above_hull,
        "formation_energy": summary.formation_energy_per_atom,
        "experimental": None if summary.theoretical is None else not summary.theoretical,
    }
    known = {name: value for name, value in said.items() if value is not None}
    return entry._replace(about={**entry.about, **known})


def _client(key: str) -> Summaries:
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise MissingError(
            "A pull with a key needs mp-api: pip install 'csp-engine[mp]', or pull without a key."
        ) from error

    def ask(names: Sequence[str]) -> Iterable[Any]:
        check_online()
        with MPRester(key, mute_progress_bars=True) as client:
            return list(client.materials.summary.search(material_ids=list(names), fields=FIELDS))

    return ask
