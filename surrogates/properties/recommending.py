"""Which model of the library is the best source for values of one's own? All are tried."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from csp.errors import InputError
from surrogates.properties import library
from surrogates.properties.features import pooled
from surrogates.properties.model import PropertyModel
from surrogates.properties.own_data import OwnData
from surrogates.properties.transfer import KERNEL_TO, Transferred, quick, source_input, transfer

__all__ = ["Recommended", "recommend", "sources"]


@dataclass(frozen=True, slots=True, eq=False)
class Recommended:
    """A source that was tried.

    Attributes:
        error: Mean absolute left-out error of what is quick to learn, in the values' unit.
        why_not: Why it could not be tried, a sentence; "".
    """

    source: PropertyModel | None
    name: str
    reads: str
    transferred: Transferred | None
    why_not: str = ""

    @property
    def error(self) -> float:
        return float("inf") if self.transferred is None else min(self.transferred.errors.values())


def sources(*, crystals: bool) -> list[PropertyModel]:
    """All models of the library, and those of crystals together as one.

    Args:
        crystals: Are crystals there to read? Else only models of compositions are loaded.
    """
    models = [library.load(name) for name in library.names()]
    reading = [model for model in models if not model.by_composition]
    if not crystals:
        return [model for model in models if model.by_composition]
    whole = library.of_one_surrogate(reading)
    return [*models, *([library.together(whole)] if len(whole) > 1 else [])]


def recommend(
    data: OwnData, tried: list[PropertyModel] | None = None, *, features: Tensor | None = None
) -> list[Recommended]:
    """The sources, the one with the smallest left-out error first, those that cannot be used last.

    All taken together go before any other where the kernel is tried: it finds out which of them matter, and
    in the mean errs less than the one chosen by errors on few values.

    Args:
        tried: None: all that the library has for the data.
        features: Of the data's crystals, by the one surrogate of these sources, where they are known already.
    """
    by_surrogate = dict[int, Tensor]()
    found = []
    for source in sources(crystals=data.crystals is not None) if tried is None else tried:
        card = source.card
        try:
            data.check_elements(source.elements, card.name)
            own = features
            if own is None and source.surrogate is not None and data.crystals is not None:
                key = id(source.surrogate)
                if key not in by_surrogate:
                    by_surrogate[key] = pooled(source.surrogate, data.crystals)
                own = by_surrogate[key]
            x = source_input(source, data, own)
        except InputError as error:
            found.append(Recommended(None, card.name, card.reads, None, error.message))
            continue
        by_strategy = [transfer(source, data, strategy=name, x=x) for name in quick(len(data))]
        best = min(by_strategy, key=lambda one: one.errors[one.strategy])
        found.append(Recommended(source, card.name, card.reads, best))

    def place(one: Recommended) -> tuple[bool, bool, float]:
        together = one.name == library.TOGETHER and len(data) <= KERNEL_TO
        return one.transferred is None, not together, one.error

    return sorted(found, key=place)
