"""The one training loop: what is skipped, logged, averaged and gone on with."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from csp.errors import InputError
from csp.training.checkpoints import TrainingState, checkpoints, read, restore
from csp.training.loop import Row, TrainingRecipe, run

RECIPE = TrainingRecipe(steps=250, lr=0.05, warmup=5, decay=0.5, weight_decay=0.0, ema=0.9)


def state(width: int = 1) -> TrainingState:
    torch.manual_seed(0)
    model = nn.Linear(width, 1)
    return TrainingState(model, copy.deepcopy(model), torch.optim.AdamW(model.parameters(), lr=0.0))


def loss_of(now: TrainingState, bad: frozenset[int] = frozenset()):
    """A line to learn; the gradient of the bad steps is not finite."""

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.rand(8, 1, generator=torch.Generator().manual_seed(step))
        error = (now.model(x) - 2.0 * x - 1.0).abs()
        return error.mean() * (math.nan if step in bad else 1.0), {"error": error}

    return loss


def test_a_line_is_learned_and_logged(tmp_path: Path) -> None:
    now, rows = state(), list[Row]()
    run(
        now,
        RECIPE,
        loss_of(now),
        tmp_path,
        about=lambda: {"what": "a line"},
        validate=lambda: {"line": float((now.average(torch.ones(1)) - 3.0).detach().abs())},
        steps_between_validations=100,
        log=rows.append,
    )
    assert [row["step"] for row in rows] == [100, 200, 250]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == rows
    assert all("skipped_not_finite" not in row and "val_line" in row for row in rows)
    assert rows[-1]["error"] < 0.1 * rows[0]["error"]
    assert rows[-1]["val_line"] < 0.1
    assert rows[-1]["lr"] == 0.0
    about = read(tmp_path)
    assert about is not None
    assert (about["what"], about["step"]) == ("a line", 250)


def test_steps_whose_gradient_is_not_finite_change_nothing(tmp_path: Path) -> None:
    now, rows = state(), list[Row]()
    run(now, RECIPE, loss_of(now, frozenset({0, 7})), tmp_path, about=dict, log=rows.append)
    assert rows[-1]["skipped_not_finite"] == 2
    assert all(bool(p.isfinite().all()) for p in now.model.parameters())
    assert rows[-1]["error"] < 0.1
    only, before = state(), state()
    run(only, RECIPE, loss_of(only, frozenset(range(250))), tmp_path / "none", about=dict)
    for one, other in zip(only.model.parameters(), before.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    whole = state()
    run(whole, RECIPE, loss_of(whole), tmp_path / "whole", about=dict)
    for _ in range(4):
        part = state()
        if checkpoints(tmp_path / "parts"):
            restore(tmp_path / "parts", part)
        run(part, RECIPE, loss_of(part), tmp_path / "parts", about=dict, stop_after_minutes=0.0)
    assert part.step == 4
    run(part, RECIPE, loss_of(part), tmp_path / "parts", about=dict)
    assert part.step == 250
    for name in ("model", "average"):
        for one, other in zip(
            getattr(whole, name).parameters(), getattr(part, name).parameters(), strict=True
        ):
            assert torch.equal(one, other)
    assert [path.name for path in checkpoints(tmp_path / "parts")] == ["step-00000250"]
    with pytest.raises(InputError, match="another architecture"):
        restore(tmp_path / "parts", state(width=2))


def test_the_average_follows_more_slowly_the_longer_it_has(tmp_path: Path) -> None:
    """After one step the average has moved by lag / (1 + lag) of the way."""
    for lag in (1, 9):
        now, begun = state(), state()
        run(
            now,
            RECIPE,
            loss_of(now),
            tmp_path / str(lag),
            about=dict,
            ema_lag=lag,
            stop_after_minutes=0.0,
        )
        for average, model, before in zip(
            now.average.parameters(), now.model.parameters(), begun.model.parameters(), strict=True
        ):
            torch.testing.assert_close(average, before + (model - before) * lag / (1 + lag))
