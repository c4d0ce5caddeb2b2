"""What the features of a network are worth to models of properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from csp.errors import InputError, did_you_mean
from surrogates.properties import library
from surrogates.properties.catalogue import LOG10, PROPERTIES
from surrogates.properties.fitting import PropertyRecipe
from surrogates.properties.library import PropertyCard
from surrogates.properties.tables import read_values
from surrogates.properties.training import train_one
from surrogates.zoo import load_surrogate

__all__ = ["AblatedProperties"]


@dataclass(frozen=True, slots=True)
class AblatedProperties:
    """Models of the same properties on the features of one network after another, learned from the same
    crystals and tested on the same compositions, which are left out by their hash.

    Attributes:
        names: Of `surrogates.properties.catalogue.PROPERTIES`.
        structures: Parquet file of known crystals.
        tables: Parquet tables that have the properties.
        limit: Crystals of each property at most; None: all.
        max_atoms: In a cell.
        out: Folder for the models and for features.
    """

    names: Sequence[str]
    structures: Path
    tables: Sequence[Path]
    limit: int | None
    max_atoms: int
    out: Path

    def check(self) -> None:
        """Raise InputError for a property that nobody knows, or without a table."""
        for name in self.names:
            if name not in PROPERTIES:
                known = f"known are {', '.join(PROPERTIES)}"
                raise InputError(f"There is no property {name!r}{did_you_mean(name, PROPERTIES, known)}")
        if self.names and not self.tables:
            raise InputError("Properties are learned from published values: name their `tables`.")

    @property
    def measures(self) -> list[str]:
        """Keys of what `measured` gives."""
        return [f"mae_{name}" for name in self.names]

    def measured(
        self, weights: Path, seed: int, device: torch.device, say: Callable[[str], None]
    ) -> dict[str, float]:
        """Mean absolute error of each property by models on the features of a network, in the unit or, of
        what is learned so, of the decimal logarithm. What is in `out` is not trained again.

        Args:
            weights: Of the network.
        """
        folder = self.out / (f"of-{self.limit}" if self.limit else "of-all") / weights.stem
        paths = {name: folder / f"{name}.safetensors" for name in self.names}
        if missing := [name for name, path in paths.items() if not path.is_file()]:
            surrogate = load_surrogate(weights, device)
            values = read_values(
                self.structures,
                self.tables,
                surrogate,
                self.out / "features",
                limit=self.limit,
                max_atoms=self.max_atoms,
                properties=self.names,
                log=say,
            )
            recipe = PropertyRecipe(seed=seed)
            for name in missing:
                train_one(values, name, paths[name], surrogate, composition=False, recipe=recipe)
        return {f"mae_{name}": _error(library.read_card(path)) for name, path in paths.items()}


def _error(card: PropertyCard) -> float:
    return card.metrics["test_mae_log10" if card.scale == LOG10 else f"test_mae_{card.unit}"]
