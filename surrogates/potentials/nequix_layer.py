"""One convolution of Nequix: messages from sums over images, their backward pass, and the gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from surrogates.potentials.nequix_couplings import L_MAX, coupling

__all__ = ["Layer"]

SILU_NORM = 0.5964586854233045  # of silu on a million quantiles of a normal deviate, as e3nn-jax has it

PRODUCTS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 28}  # CPU: what stays in a core's own cache

Put = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Path:
    """From features of l1 with harmonics of l2 to l3.

    Attributes:
        coupling: float [2 l3 + 1, (2 l1 + 1)(2 l2 + 1)], or [1, 1] if l3 = 0.
        columns: Its channels among all that arrive at l3.
    """

    l3: int
    coupling: Tensor
    columns: slice


@dataclass(frozen=True, slots=True)
class _Group:
    """The n paths from features of l1 with harmonics of l2, to scalars or to all else.

    Attributes:
        mix: float [q, n c], their V.
    """

    l1: int
    l2: int
    mix: Tensor
    paths: list[_Path]

    @property
    def scalar(self) -> bool:
        """To scalars, with l1 = l2: only components of the same m are multiplied, and summed."""
        return self.paths[0].l3 == 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of weighted harmonics, beside components (or none) of features: m1, m2 and n."""
        m = 2 * self.l2 + 1
        return (m, 1, 1) if self.scalar else (1, m, len(self.paths))


class _Messages(torch.autograd.Function):
    """What arrives at the sites, by l3: Σ over neighbours of features × weighted harmonics, coupled.

    Features and weighted harmonics are multiplied channel by channel and summed over the neighbours; the
    coupling follows for each site. The backward pass is written out: autograd's would make many more passes
    over memory.

    Args:
        pairs: float [T P, 16, q], Σ over images of Y(v) Φ(r).
        groups: The paths of the layer.
        widths: Channels that arrive at each l3.
        x: float [T, P, 2 l1 + 1, c], features of the sources, by l1.

    Returns:
        float [T, 2 l3 + 1, width] by l3.
    """

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, groups: list[_Group], widths: list[int], *x: Tensor
    ) -> tuple[Tensor, ...]:
        n_sites, n_sources = x[0].shape[:2]
        by_l = _by_l(pairs)
        arrived = tuple(x[0].new_empty((n_sites, 2 * ell + 1, width)) for ell, width in enumerate(widths))
        kept = []
        for g in groups:
            features = x[g.l1][:, :, :, None, None]
            weighted = (by_l[g.l2] @ g.mix).view(n_sites, n_sources, *g.shape, -1)
            kept.append(weighted)
            products = _summed_products(weighted, features, (1, 2) if g.scalar else (1,))
            products = products.view(n_sites, -1, len(g.paths), products.shape[-1])
            for k, path in enumerate(g.paths):
                c = path.coupling.expand(n_sites, -1, -1)
                arrived[path.l3][:, :, path.columns] = torch.bmm(c, products[:, :, k])
        ctx.save_for_backward(*x, *kept)
        ctx.groups, ctx.n_x, ctx.shape = groups, len(x), pairs.shape
        return arrived

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, kept = ctx.saved_tensors[: ctx.n_x], ctx.saved_tensors[ctx.n_x :]
        wanted = ctx.needs_input_grad[3]
        n_sites, q = len(x[0]), ctx.shape[2]
        on_pairs = [x[0].new_zeros((ctx.shape[0] * (2 * ell + 1), q)) for ell in range(L_MAX + 1)]
        on_x: list[Tensor | None] = [None] * len(x)
        for g, weighted in zip(ctx.groups, kept, strict=True):
            channels = x[g.l1].shape[3]
            components = g.paths[0].coupling.shape[1]
            grad = x[0].new_empty((n_sites, components, len(g.paths), channels))
            for k, path in enumerate(g.paths):
                c = path.coupling.mT.expand(n_sites, -1, -1)
                grad[:, :, k] = torch.bmm(c, grads[path.l3][:, :, path.columns])
            grad = grad.view(n_sites, 1, -1, *weighted.shape[3:])
            features = x[g.l1][:, :, :, None, None]
            on_weighted = _summed_products(features, grad, () if g.scalar else (2,))
            on_pairs[g.l2].addmm_(on_weighted.view(-1, g.mix.shape[1]), g.mix.mT)
            if wanted:
                more = _summed_products(weighted, grad, (3, 4)).view_as(x[g.l1])
                on_x[g.l1] = more if on_x[g.l1] is None else on_x[g.l1].add_(more)
        return torch.cat([part.view(ctx.shape[0], -1, q) for part in on_pairs], 1), None, None, *on_x


def _by_l(pairs: Tensor) -> list[Tensor]:
    """[N, 16, q] → [N (2 l + 1), q] by l."""
    parts = pairs.split([2 * ell + 1 for ell in range(L_MAX + 1)], 1)
    return [part.reshape(-1, pairs.shape[2]) for part in parts]


def _summed_products(a: Tensor, b: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(a * b).sum(dims), the product a block of sites after the other so that it stays in the cache."""
    shape = [max(n, m) for n, m in zip(a.shape, b.shape, strict=True)]
    left = [n for d, n in enumerate(shape) if d not in dims]
    dims = tuple(d for d in dims if shape[d] > 1)  # torch's sum over a dimension of one is slow
    if not dims:
        return (a * b).view(left)
    block = max(1, PRODUCTS_AT_ONCE.get(a.device.type, PRODUCTS_AT_ONCE["cpu"]) // math.prod(shape[1:]))
    if block >= shape[0]:
        return (a * b).sum(dims).view(left)
    product = a.new_empty((block, *shape[1:]))
    total = a.new_empty([n for d, n in enumerate(shape) if d not in dims])
    for start in range(0, shape[0], block):
        stop = min(start + block, shape[0])
        part = product[: stop - start]
        torch.mul(a[start:stop], b[start:stop], out=part)
        torch.sum(part, dims, out=total[start:stop])
    return total.view(left)


class Layer:
    """One convolution with its gate.

    Args:
        inputs, outputs: Channels by l.
        take: Gives the arrays of the file one after the other; called with their shapes.
        n_basis, hidden: Sizes of the radial network.
    """

    groups: list[_Group]

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        take: Callable[..., Tensor],
        *,
        n_basis: int,
        hidden: int,
        n_neighbours: float,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        # the columns of the radial network are in this order
        self.paths = sorted(
            (
                (l1, l2, l3)
                for l1 in range(len(inputs))
                for l2 in range(L_MAX + 1)
                for l3 in range(abs(l1 - l2), min(l1 + l2, len(outputs) - 1) + 1)
                if (l1 + l2 + l3) % 2 == 0
            ),
            key=lambda path: path[2],
        )
        channels = sum(inputs[path[0]] for path in self.paths)
        self.network = [take(n_basis, hidden), take(hidden, hidden), take(hidden, channels)]
        self.before = [take(n, n) / math.sqrt(n) for n in inputs]
        self.widths = [
            sum(inputs[l1] for l1, _, l3 in self.paths if l3 == ell) for ell in range(len(outputs))
        ]
        made = (sum(outputs), *outputs[1:])  # the scalars of a layer are gates as well
        self.after = [
            take(width, n) / math.sqrt(width * n_neighbours)
            for width, n in zip(self.widths, made, strict=True)
        ]
        self.skip = [take(n, m) / math.sqrt(n) for n, m in zip(inputs, made, strict=False)]
        self.norm = [take(n) for n in made]

    def prepare(self, mix: Tensor, put: Put) -> None:
        """Bring the weights to their device and precision; `mix` [q, columns] stands for the network."""
        parts = mix.split([self.inputs[l1] for l1, _, _ in self.paths], 1)
        columns = dict(zip(self.paths, parts, strict=True))
        stop, arriving = dict.fromkeys(range(L_MAX + 1), 0), {}
        for path in self.paths:
            start, stop[path[2]] = stop[path[2]], stop[path[2]] + self.inputs[path[0]]
            arriving[path] = slice(start, stop[path[2]])
        self.groups = []
        for key in sorted({(l1, l2, l3 == 0) for l1, l2, l3 in self.paths}):
            own = [path for path in self.paths if (path[0], path[1], path[2] == 0) == key]
            couplings = [torch.from_numpy(coupling(*path)).flatten(0, 1).T for path in own]
            if key[2]:  # a multiple of the unit matrix
                couplings = [c[:, :1] for c in couplings]
            paths = [_Path(p[2], put(c), arriving[p]) for p, c in zip(own, couplings, strict=True)]
            mixed = torch.cat([columns[path] for path in own], 1)
            self.groups.append(_Group(key[0], key[1], put(mixed), paths))
        for name in ("before", "after", "skip", "norm"):
            setattr(self, name, [put(w) for w in getattr(self, name)])

    def __call__(self, x: list[Tensor], skip: list[Tensor], pairs: Tensor) -> list[Tensor]:
        """Features of the sites [T, 2 l + 1, channels] by l.

        x [T, P, 2 l1 + 1, channels] by l1: of the sources; pairs [T P, 16, q]: Σ over images of Y Φ
        """
        arrived = _Messages.apply(pairs, self.groups, self.widths, *x)
        y = [a @ w for a, w in zip(arrived, self.after, strict=True)]
        y = [y[ell] + skip[ell] if ell < len(skip) else y[ell] for ell in range(len(y))]
        # as trained: squares are summed over the channels
        square = sum(
            a.square().sum((1, 2)) / ((2 * ell + 1) ** 2 * len(self.outputs)) for ell, a in enumerate(y)
        )
        inverse = torch.rsqrt(square + 1e-12)[:, None, None]
        y = [a * (w * inverse) for a, w in zip(y, self.norm, strict=True)]
        gates = (silu(y[0]) / SILU_NORM).split(list(self.outputs), 2)
        return [gates[0], *(a * gate for a, gate in zip(y[1:], gates[1:], strict=True))]
