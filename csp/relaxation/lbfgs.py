"""Limited-memory BFGS for many small problems at once, each with a memory of its own.

Nocedal, Math. Comput. 35, 773 (1980): the two-loop recursion over the last steps and the changes of the
force on them, with curvatures damped as by Levenberg and Marquardt. There is no line search, as in ASE's
LBFGS: a full step costs one evaluation of energy and forces, and a step that is too long is shortened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LBFGS"]

MEMORY = 10  # steps; without damping 5 needed 2 % more evaluations, 20 no fewer
FIRST = 0.05  # Å²/eV: inverse curvature until something is known, that of a stiff bond
# eV/Å², added to every curvature: without it a step along a soft mode may leave the basin. Of 97 known
# crystals blown up by 8 % and relaxed by our surrogate for at most 60 steps, 11 end elsewhere with 0 and 8
# with 3, after 851 and 893 evaluations; with FIRE 4 after 2,031, when 9 have not converged yet.
DAMPING = 3.0
SOFTEST = 1.0  # Å²/eV: no softer is believed where the curvature is not positive


@dataclass(slots=True)
class LBFGS:
    """The memories of B problems whose coordinates are the rows, N in all, of one matrix [N, 3].

    Attributes:
        owner: int64 [N], the problem that each row belongs to.
        longest: float [N], Å; a step is shortened as a whole until no row is longer.
        steps: float [M, N, 3], the last steps, the newest first.
        changes: float [M, N, 3], by how much the force fell on each, in the damped sense of Levenberg and
            Marquardt.
        curvature: float [M, B], 1 / (step · change); 0 where that was not positive, or nothing is remembered.
        softness: float [B], inverse curvature of what is not remembered.
        force: float [N, 3], the last one; zero before the first.
    """

    owner: Tensor
    longest: Tensor
    steps: Tensor
    changes: Tensor
    curvature: Tensor
    softness: Tensor
    force: Tensor

    @classmethod
    def start(cls, owner: Tensor, longest: Tensor, n: int) -> LBFGS:
        """Nothing remembered yet, of n problems."""
        return cls(
            owner,
            longest,
            steps=longest.new_zeros(0, len(owner), 3),
            changes=longest.new_zeros(0, len(owner), 3),
            curvature=longest.new_zeros(0, n),
            softness=longest.new_full((n,), FIRST),
            force=longest.new_zeros(len(owner), 3),
        )

    def keep(self, stay: Tensor) -> LBFGS:
        """Those of the problems, bool [B], that go on."""
        rows = stay[self.owner]
        place = stay.cumsum(0) - 1
        return LBFGS(
            place[self.owner[rows]],
            self.longest[rows],
            self.steps[:, rows],
            self.changes[:, rows],
            self.curvature[:, stay],
            self.softness[stay],
            self.force[rows],
        )

    def step(self, force: Tensor) -> Tensor:
        """The next step, Å [N, 3], from the forces, eV/Å [N, 3], where the last one led."""
        if len(self.steps):
            self._learn(self.force - force + DAMPING * self.steps[0])
        step = self._shortened(self._direction(force))
        self.force = force
        self.steps = torch.cat([step[None], self.steps[: MEMORY - 1]])
        return step

    def _learn(self, change: Tensor) -> None:
        """Learn the curvature along the last step.

        Where that is not positive the step is left out of the memory, and its size is all that counts.
        """
        step = self.steps[0]
        along, across, length = self._dot(step, change), self._dot(change, change), self._dot(step, step)
        convex = along > 0
        self.changes = torch.cat([change[None], self.changes[: MEMORY - 1]])
        new = torch.where(convex, 1 / along, 0.0)
        self.curvature = torch.cat([new[None], self.curvature[: MEMORY - 1]])
        concave = (length / along.abs()).nan_to_num(SOFTEST, SOFTEST).clamp(max=SOFTEST)
        self.softness = torch.where(convex, along / across, concave)

    def _direction(self, force: Tensor) -> Tensor:
        memory = list(zip(self.steps, self.changes, self.curvature, strict=True))
        direction, weights = force, []
        for step, change, curvature in memory:
            weights.append(curvature * self._dot(step, direction))
            direction = direction - weights[-1][self.owner, None] * change
        direction = self.softness[self.owner, None] * direction
        for (step, change, curvature), weight in zip(reversed(memory), reversed(weights), strict=True):
            rest = weight - curvature * self._dot(change, direction)
            direction = direction + rest[self.owner, None] * step
        return direction

    def _shortened(self, step: Tensor) -> Tensor:
        excess = torch.ones_like(self.softness).scatter_reduce(
            0, self.owner, step.norm(dim=1) / self.longest, "amax"
        )
        return step / excess[self.owner, None]

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """[B]: the scalar product of each problem's own rows."""
        return torch.zeros_like(self.softness).index_add(0, self.owner, (a * b).sum(1))
