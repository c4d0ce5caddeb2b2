"""The one table of a search's stages: what runs, in which order and portions, and what people see of it.

The search, the flows and both progress displays read it, so that no stage can be missing in one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from csp.settings import SearchSettings

__all__ = [
    "BY_NAME",
    "DOING",
    "PHONON_STEPS",
    "STAGES",
    "STEPS",
    "WHOLE",
    "WRITE",
    "Share",
    "Stage",
    "asked_for",
    "shards",
    "stage_of_step",
    "time_limits",
    "time_shares",
]

ON_GPU = 32  # times as many crystals in a shard as on a CPU

Share = tuple[int, int]
"""(k, n): every n-th shard of a stage from the k-th, so that n workers do a stage between them."""

WHOLE: Share = (0, 1)


def _always(settings: SearchSettings) -> bool:
    return True


def _deep(settings: SearchSettings) -> bool:
    return settings.effort == "deep"


def _phonons(settings: SearchSettings) -> bool:
    return settings.phonons > 0


def _two_models(settings: SearchSettings) -> bool:
    return len(settings.models) > 1


def _several_models(settings: SearchSettings) -> bool:
    return _two_models(settings) or settings.second_opinion != "none"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search.

    Attributes:
        name: Of the method of `csp.search.search.Search`, and in the store.
        doing: What the progress display and the log call it while it runs.
        weight: Its share of the time, relative to the other stages', that of `rounds` for each minute, that
            of `phonons` for each crystal. Measured on the 35 compositions in `benchmarks/results/nequix`,
            those of `pattern` and `write` on three searches; those of `label`, `phonons`, `compare` and
            `hull` are guesses.
        shard: Crystals in one shard on a CPU, which is what a kill may cost; 0: it stores nothing.
        by_model: Does an energy model compute in it, on a GPU if there is one?
        asked: Do these settings ask for it?
        steps: What is done in each of its rounds, in order, each when the one before is done by all workers;
            none: it has no rounds.
    """

    name: str
    doing: str
    weight: float
    shard: int = 0
    by_model: bool = False
    asked: Callable[[SearchSettings], bool] = _always
    steps: tuple[str, ...] = ()

    def shard_on(self, device: str) -> int:
        """Crystals in one shard on a device of the type "cpu" or "cuda"."""
        return self.shard * (ON_GPU if self.by_model and device != "cpu" else 1)


STEPS = ("propose", "pre_relax", "relax", "rescore", "refine", "close")
"""What a round of a deep search does."""

PHONON_STEPS = ("settle", "displace", "check", "follow", "followed")
"""What a round of phonons does: relax, displace, check what is imaginary by interpolation only, go down
imaginary modes, and note that it is done."""

STAGES = (
    Stage("propose", "proposing candidates", 7, 256),
    Stage("filter", "dropping what is crowded or there twice", 1),
    Stage("screen", "screening", 2, 256, by_model=True),
    Stage("label", "labelling", 67, 1, asked=lambda settings: settings.labeller != "none"),
    Stage("pre_relax", "relaxing drawn candidates briefly", 18, 120, by_model=True),
    # 40 relax a quarter to a third faster than 16 at a time
    Stage("relax", "relaxing", 12, 40, by_model=True),
    Stage("rescore", "rescoring", 4, 40, by_model=True, asked=_two_models),
    Stage("refine", "refining", 48, 10, by_model=True, asked=_two_models),
    Stage("rounds", "searching on in rounds (seconds)", 72, asked=_deep, steps=STEPS),
    Stage("rattle", "rattling the best", 7, 8, by_model=True),
    # of each crystal; a shard is of its supercells
    Stage("phonons", "computing phonons (steps)", 60, 4, by_model=True, asked=_phonons, steps=PHONON_STEPS),
    Stage("compare", "asking other models", 1, 40, by_model=True, asked=_several_models),
    Stage("hull", "relaxing references of the hull", 20, 1, by_model=True, asked=lambda s: s.hull),
)

# no stages of the search, but what it ends with, which takes a while too
PATTERN = Stage("pattern", "fitting to the powder pattern", 10, asked=lambda s: s.xrd is not None)
WRITE = Stage("write", "writing the results", 24)

DOING = {stage.name: stage.doing for stage in (*STAGES, PATTERN, WRITE)}

BY_NAME = {stage.name: stage for stage in STAGES}


def stage_of_step(step: str) -> Stage | None:
    """The stage of this name or, where there is none, the one in whose rounds it is a step."""
    return BY_NAME.get(step) or next((stage for stage in STAGES if step in stage.steps), None)


def asked_for(settings: SearchSettings) -> list[Stage]:
    """The stages that a search with these settings runs, in order."""
    return [stage for stage in STAGES if stage.asked(settings)]


def time_shares(settings: SearchSettings) -> dict[str, float]:
    """Per cent of the whole time that each stage, and writing the results, is expected to take, by name."""
    stages = [*asked_for(settings), *([PATTERN] if PATTERN.asked(settings) else []), WRITE]
    times = {"rounds": settings.minutes, "phonons": settings.phonons}
    weight = {stage.name: stage.weight * times.get(stage.name, 1.0) for stage in stages}
    return {name: 100 * one / sum(weight.values()) for name, one in weight.items()}


def time_limits(settings: SearchSettings) -> dict[str, float]:
    """Seconds after the beginning at which a stage is over, however fast the machine is, by name."""
    return {"rounds": 60 * settings.minutes} if _deep(settings) else {}


def shards(n: int, size: int, share: Share) -> Iterator[tuple[int, range]]:
    """(shard number, its range) of n things in shards of `size`; those of the share only."""
    mine, shares = share
    for shard in range(mine, math.ceil(n / size), shares):
        yield shard, range(shard * size, min(n, (shard + 1) * size))
