"""Compositions as vectors: near where they crystallise alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from csp.training.cards import ModelCard, load_weights
from generators.templates.pettifor import pettifor_scale

__all__ = ["CompositionEncoder", "EncoderArchitecture"]

MAX_Z = 118
N_FEATURES = 5  # of an entry, see `generators.templates.entry_features`


@dataclass(frozen=True, slots=True)
class EncoderArchitecture:
    """Sizes of the encoder; with no layers the places know nothing of each other.

    Attributes:
        width: Of the attention.
        layers: Of the attention.
        heads: Of the attention.
        whole: Size of the vector of a composition.
        place: Size of the vectors of its places.
    """

    width: int = 96
    layers: int = 3
    heads: int = 4
    whole: int = 48
    place: int = 32


class CompositionEncoder(nn.Module):
    """Attention over (element, amount) tokens, and the kernel that compares what comes out.

    A composition in the places of a prototype is the vector (f, g_1 … g_k) of the whole and of the
    elements in their places; two are compared by a Student kernel of the squared distance of their
    vectors (as in t-SNE, van der Maaten and Hinton, J. Mach. Learn. Res. 9, 2579 (2008)):

        s = −ν ln(1 + d²/ν) + a · features(entry)

    so that a far entry still counts a little, and many far ones are the frequency of their structure.
    """

    def __init__(self, a: EncoderArchitecture) -> None:
        super().__init__()
        self.architecture = a
        self.element = nn.Embedding(MAX_Z + 1, a.width)
        self.amount = nn.Linear(4, a.width)
        layer = [
            nn.TransformerEncoderLayer(
                a.width,
                a.heads,
                2 * a.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(a.layers)
        ]
        self.layers = nn.ModuleList(layer)
        self.norm = nn.LayerNorm(a.width)
        self.whole = nn.Linear(a.width, a.whole, bias=False)
        self.place = nn.Linear(a.width, a.place, bias=False)
        self.log_tail = nn.Parameter(torch.tensor(math.log(5.0)))
        self.evidence = nn.Parameter(torch.zeros(N_FEATURES))
        with torch.no_grad():
            self.element.weight.copy_(_near_on_the_scale(a.width))

    def forward(self, numbers: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the whole [N, F] and of the places [N, k, G]; numbers, counts int [N, k], 0 pads."""
        n = counts.to(self.element.weight)
        share = n / n.sum(1, keepdim=True)
        amounts = torch.stack([share, share.sqrt(), n.clamp(min=1).log(), 1.0 / n.clamp(min=1)], -1)
        x = self.element(numbers) + self.amount(amounts)
        padding = counts == 0
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        x = self.norm(x) * share.sqrt()[..., None]
        return self.whole((x * share.sqrt()[..., None]).sum(1)), self.place(x)

    def compare(
        self, queries: tuple[Tensor, Tensor], entries: tuple[Tensor, Tensor], orders: Tensor
    ) -> Tensor:
        """float [Q, P, N]: the kernel of Q compositions, in P orders of their places, with N entries.

        Args:
            queries: What `forward` returns for them.
            entries: Likewise.
            orders: int64 [P, k].
        """
        f = torch.cdist(queries[0], entries[0], compute_mode="use_mm_for_euclid_dist") ** 2
        placed = queries[1][:, orders].flatten(2)  # [Q, P, k·G]
        own = entries[1].flatten(1)
        g = (placed**2).sum(-1)[:, :, None] + (own**2).sum(-1) - 2.0 * placed @ own.T
        squared = f[:, None] + g.clamp(min=0.0)
        tail = self.log_tail.exp()
        return -tail * torch.log1p(squared / tail)


def load_encoder(path: Path) -> tuple[CompositionEncoder, ModelCard]:
    """The metric in a weights file, on the CPU; see `csp.training.cards.load_weights`."""
    weights, card = load_weights(path)
    encoder = CompositionEncoder(EncoderArchitecture(**card.architecture))
    encoder.load_state_dict(weights)
    return encoder.eval(), card


def _near_on_the_scale(width: int) -> Tensor:
    """float [119, width]: random functions of the place on the modified Pettifor scale, smooth over a
    few places; where training has nothing to say of an element, its neighbours on the scale have."""
    generator = torch.Generator().manual_seed(0)
    places = torch.as_tensor(pettifor_scale()).nan_to_num(0.0).float()
    frequency = torch.randn(width, generator=generator) / 6.0
    phase = 2.0 * math.pi * torch.rand(width, generator=generator)
    return torch.cos(places[:, None] * frequency + phase)
