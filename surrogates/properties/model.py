"""A model of one property: an encoder, a last layer, and how far it may be off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError
from surrogates.properties.catalogue import backward
from surrogates.properties.features import pooled
from surrogates.properties.kernel import KernelRegression
from surrogates.transformer.network import MAX_Z
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import with_constant

__all__ = [
    "OUTSIDE",
    "LastLayer",
    "Predicted",
    "PropertyModel",
    "composition_input",
    "last_layer_input",
    "shares",
]

OUTSIDE = 3.0  # times the mean leverage of the training data: the usual warning limit of Williams plots


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a model says of B crystals.

    Attributes:
        value: float64 [B], in the model's unit.
        sigma: float64 [B]: ± so much holds 68 % of the errors.
        low, high: float64 [B]: between them are 95 %.
        leverage: float64 [B], how far each lies outside the training data: 1 is the mean of these.
    """

    value: Tensor
    sigma: Tensor
    low: Tensor
    high: Tensor
    leverage: Tensor

    @property
    def outside(self) -> Tensor:
        """bool [B]."""
        return self.leverage > OUTSIDE


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    """y = (h, 1)·weight, with the spread of the weights that the data leave open.

    Attributes:
        weight: float64 [H + 1].
        factor: float64 [H + 1, P]: σ(h) = |(h, 1) factor|, as the fit has it.
        noise: σ that no further data would take away; it is added in quadrature.
        q68, q95: by what to multiply that σ so that so many per cent of left-out errors are within.
        leverage: Mean of |(h, 1) factor|² over the training data.
    """

    weight: Tensor
    factor: Tensor
    noise: float
    q68: float
    q95: float
    leverage: float

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> LastLayer:
        """What `tensors` gave."""
        return cls(
            tensors["weight"].double(), tensors["factor"].double(), *tensors["numbers"].double().tolist()
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that it consists of, in single precision."""
        numbers = torch.tensor([self.noise, self.q68, self.q95, self.leverage])
        return {"weight": self.weight.float(), "factor": self.factor.float(), "numbers": numbers}

    def linear(self) -> Tensor:
        """float64 [H + 1]: the last layer whose value another model can begin with."""
        return self.weight

    def open(self, h: Tensor) -> Tensor:
        """float64 [B], the variance that the weights leave open, from features [B, H]."""
        return ((with_constant(h) @ self.factor.to(h.device)) ** 2).sum(1)

    def mean(self, h: Tensor) -> Tensor:
        """float64 [B]."""
        return with_constant(h) @ self.weight.to(h.device)


class PropertyModel:
    """A property of crystals, or of compositions alone.

    Attributes:
        card: See `surrogates.properties.library.PropertyCard`.
        surrogate: Whose features it reads; None: it reads the composition alone.
        last: What makes the value of the encoder's features.
        values: float64 [H + 1, S], last layers whose values a model that is learned from this one may use:
            its own, or those of all models that it was joined from.
        blocks: Numbers of features of one origin, H in all; each has a width of its own in transfer.
    """

    def __init__(
        self,
        card: Any,
        encoder: Any,
        last: LastLayer | KernelRegression,
        surrogate: Surrogate | None,
        values: Tensor | None = None,
    ) -> None:
        self.card, self.encoder, self.last, self.surrogate = card, encoder, last, surrogate
        self._values = values
        n = 1 if values is None else values.shape[1]
        self.blocks = [encoder.members * encoder.width // n] * n
        self.elements = frozenset(card.elements)

    @property
    def values(self) -> Tensor:
        return self.last.linear()[:, None] if self._values is None else self._values

    @property
    def by_composition(self) -> bool:
        return self.surrogate is None

    def with_plain(self, x: Tensor) -> PropertyModel:
        """With the principal components of inputs x [N, F] beside the features, of crystals."""
        return self if self.by_composition else self._handing_on(self.encoder.with_plain(x))

    def with_raw(self) -> PropertyModel:
        """With the surrogate's features beside its own, of crystals."""
        return self if self.by_composition else self._handing_on(self.encoder.with_raw())

    def _handing_on(self, encoder: Any) -> PropertyModel:
        """With an encoder whose members are its own and others."""
        begun, more = (n * encoder.width for n in (encoder.learned, encoder.members - encoder.learned))
        values, n = self.values, self.values.shape[1]
        zeros = torch.zeros(more, n, dtype=torch.float64)
        values = torch.cat([values[:begun], zeros, values[-1:]])
        other = PropertyModel(self.card, encoder, self.last, self.surrogate, values)
        other.blocks = [*[begun // n] * n, more]
        return other

    def inputs(self, crystals: Crystals, features: Tensor | None = None) -> Tensor:
        """What the encoder reads of crystals.

        Args:
            features: The surrogate's, where they are known already (`surrogates.properties.features.pooled`).
        """
        self.check_elements(crystals)
        if self.surrogate is None:
            return composition_input(crystals)
        return pooled(self.surrogate, crystals) if features is None else features

    def check_elements(self, crystals: Crystals) -> None:
        """Raise InputError for elements that no training crystal had."""
        unknown = sorted(set(crystals.numbers.unique().tolist()) - self.elements)
        if unknown:
            from ase.data import chemical_symbols

            names = ", ".join(chemical_symbols[z] for z in unknown)
            raise InputError(f"The model {self.card.name} was not trained on {names}.")

    def hidden(self, x: Tensor) -> Tensor:
        """float64 [B, H]: what the value is linear in."""
        return last_layer_input(self.encoder, x)

    def predict(self, crystals: Crystals, features: Tensor | None = None) -> Predicted:
        """The property of crystals.

        Raises:
            InputError: For an element that no training crystal had.
        """
        return self.from_hidden(self.hidden(self.inputs(crystals, features)))

    def from_hidden(self, h: Tensor) -> Predicted:
        """From features [B, H] of `hidden`."""
        y, free = self.last.mean(h), self.last.open(h)
        sigma = (free + self.last.noise**2).sqrt()
        scale, floor = self.card.scale, self.card.lowest
        value, spread = backward(y, self.last.q68 * sigma, scale)
        low, _ = backward(y - self.last.q95 * sigma, sigma, scale)
        high, _ = backward(y + self.last.q95 * sigma, sigma, scale)
        if floor is not None:
            value, low, high = value.clamp(min=floor), low.clamp(min=floor), high.clamp(min=floor)
        return Predicted(value, spread, low, high, free / self.last.leverage)


@torch.no_grad()
def last_layer_input(encoder: Any, x: Tensor) -> Tensor:
    """float64 [B, K·h]: the members' features side by side."""
    parts = [encoder(part).transpose(0, 1).flatten(1) for part in x.split(4096)]
    return torch.cat(parts).double() if parts else x.new_zeros(0, encoder.members * encoder.width).double()


def composition_input(crystals: Crystals) -> Tensor:
    """float32 [B, L, 2]: atomic numbers and shares of each crystal's elements, see `CompositionEncoder`."""
    return shares(
        torch.bincount(n, minlength=MAX_Z + 1) for n in crystals.numbers.split(crystals.n_atoms.tolist())
    )


def shares(amounts: Iterable[Tensor]) -> Tensor:
    """float32 [B, L, 2]: atomic numbers and shares, from the amounts [MAX_Z + 1] by atomic number of each."""
    rows = torch.stack([*amounts, torch.zeros(MAX_Z + 1, dtype=torch.int64)]).float()[:-1]
    share = rows / rows.sum(1, keepdim=True)
    width = max(int((rows > 0).sum(1).max()) if len(rows) else 1, 1)
    share, numbers = share.topk(width, 1)
    return torch.stack([torch.where(share > 0, numbers, 0).float(), share], -1)
