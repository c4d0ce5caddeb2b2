"""The batched two-loop recursion against dense BFGS, and on quadratic problems."""

from itertools import pairwise

import torch
from torch import Tensor

from csp.relaxation.lbfgs import DAMPING, FIRST, LBFGS

ROWS = (1, 4, 2)  # of three problems


def problems(seed: int = 0) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Curvatures [3r, 3r], positive, and starts [r, 3] of three quadratics, and the owners of all rows."""
    torch.manual_seed(seed)
    roots = [torch.randn(3 * r, 3 * r, dtype=torch.float64) for r in ROWS]
    curvatures = [a @ a.T + 5 * torch.eye(len(a), dtype=torch.float64) for a in roots]
    starts = [torch.randn(r, 3, dtype=torch.float64) for r in ROWS]
    return curvatures, starts, torch.repeat_interleave(torch.arange(3), torch.tensor(ROWS))


def forces(curvatures: list[Tensor], x: Tensor, owner: Tensor) -> Tensor:
    force = torch.zeros_like(x)
    for k, curvature in enumerate(curvatures):
        force[owner == k] = -(curvature @ x[owner == k].reshape(-1)).reshape(-1, 3)
    return force


def damped(step: Tensor, change: Tensor) -> Tensor:
    return change + DAMPING * step


def dense(steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The inverse Hessian after BFGS updates (Nocedal & Wright, eq. 6.17), oldest first, from s·y / y·y."""
    s, y = steps[-1], changes[-1]
    one = torch.eye(len(s), dtype=s.dtype)
    inverse = (s @ y) / (y @ y) * one
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        left = one - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    return inverse


def test_steps_are_those_of_dense_bfgs() -> None:
    curvatures, starts, owner = problems()
    x = torch.cat(starts)
    optimiser = LBFGS.start(owner, torch.full((len(owner),), 1e6, dtype=torch.float64), 3)
    points, felt = [], []
    for _ in range(6):
        points.append(x)
        felt.append(forces(curvatures, x, owner))
        step = optimiser.step(felt[-1])
        x = x + step
        for k in range(3):
            of = [p[owner == k].reshape(-1) for p in points]
            force = [f[owner == k].reshape(-1) for f in felt]
            expected = FIRST * force[0]
            if len(of) > 1:
                steps = [b - a for a, b in pairwise(of)]
                changes = [a - b for a, b in pairwise(force)]
                expected = dense(steps, list(map(damped, steps, changes))) @ force[-1]
            torch.testing.assert_close(step[owner == k].reshape(-1), expected, rtol=1e-8, atol=1e-10)


def test_no_row_is_longer_than_asked_and_directions_stay() -> None:
    _, _, owner = problems()
    longest = torch.full((len(owner),), 0.1, dtype=torch.float64)
    force = torch.randn(len(owner), 3, dtype=torch.float64) * torch.tensor([0.1, 30.0, 5.0])[owner, None]
    step = LBFGS.start(owner, longest, 3).step(force)
    assert bool((step.norm(dim=1) <= 0.1 + 1e-12).all())
    for k in range(3):
        ratio = step[owner == k] / force[owner == k]
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    torch.testing.assert_close(step[owner == 0], FIRST * force[owner == 0])


def test_those_that_are_kept_go_on_as_they_would_have() -> None:
    curvatures, starts, owner = problems(1)
    x = torch.cat(starts)
    longest = torch.full((len(owner),), 0.2, dtype=torch.float64)
    all_, some, stay = LBFGS.start(owner, longest, 3), LBFGS.start(owner, longest, 3), None
    for n in range(12):
        force = forces(curvatures, x, owner)
        step = all_.step(force)
        if n == 4:
            stay = torch.tensor([True, False, True])
            some = some.keep(stay)
            assert some.owner.tolist() == [0, 1, 1]
        rows = slice(None) if stay is None else stay[owner]
        torch.testing.assert_close(some.step(force[rows]), step[rows], rtol=0, atol=0)
        x = x + step


def test_a_saddle_is_left_and_a_minimum_found() -> None:
    """E = (x² − 1)² + y² + z² from beside its saddle, and from its very minimum."""
    x = torch.tensor([[0.05, 0.5, -0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
    optimiser = LBFGS.start(torch.arange(2), torch.full((2,), 0.2, dtype=torch.float64), 2)
    for _ in range(40):
        x = x + optimiser.step(torch.stack([-4 * x[:, 0] * (x[:, 0] ** 2 - 1), *(-2 * x[:, 1:]).T], 1))
    torch.testing.assert_close(x[:, 0].abs(), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(x[:, 1:], torch.zeros(2, 2, dtype=torch.float64), atol=1e-6, rtol=0)
