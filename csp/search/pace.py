"""How far a piece of work is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Pace", "duration"]

OWN = 0.05  # share of a stage after which its own pace counts
FOUND = 10.0  # per cent a second: what a resumed run finds in its store comes faster, work does not


class Pace:
    """How far a piece of work is, per cent, and how long it will take, from what its stages report.

    What is left of the present stage goes at its own pace, the stages after it at that of all before. In the
    second halves of the searches for the 35 compositions in `benchmarks/results/nequix` the time left is so
    within a factor of two for 94 % of the time, times below 10 s counted as 10 s.

    A stage that is reported to have a total of 0 has nothing to do: no time is expected of it any more. What
    is known to be so early, as where there can be no hull, is best reported first.

    Args:
        shares: Per cent of the whole that each stage is expected to take, in their order.
        doing: What people are told while a stage runs.
        over: Seconds after the first report at which a stage is over, however fast the machine is; at most
            one stage has such a limit.
    """

    def __init__(
        self, shares: dict[str, float], doing: dict[str, str], over: Mapping[str, float] | None = None
    ) -> None:
        self.shares, self.doing, self.over = dict(shares), doing, over or {}
        self.stage = ""
        self.begun: float | None = None  # time of the first report
        self.seen: tuple[float, float] | None = None  # time of the last report, and the share done by then
        self.all, self.own = _Worked(), _Worked()  # in all, and in the present stage

    def at(self, stage: str, done: int, total: int, now: float) -> tuple[float, str]:
        """Per cent of the whole, and a sentence; `now` in seconds of any clock that goes on."""
        percent, left = self.measure(stage, done, total, now)
        text = f"{self.doing.get(stage, stage)}: {done:,} of {total:,}"
        return percent, text if left is None or done >= total else f"{text}, {duration(left)} left"

    def measure(self, stage: str, done: int, total: int, now: float) -> tuple[float, float | None]:
        """Per cent of the whole, and the seconds left; None as long as they are anybody's guess."""
        if stage not in self.shares:
            return 0.0, None
        if not total:
            self.shares[stage] = 0.0
            return self._percent(self.seen[1] if self.seen else 0.0), None
        names = list(self.shares)
        share, part = self.shares[stage], done / total
        at = sum(self.shares[name] for name in names[: names.index(stage)]) + share * part
        begun = self.begun = now if self.begun is None else self.begun
        if stage != self.stage:
            self.stage, self.own = stage, _Worked()
        if self.seen is not None:
            for worked in (self.all, self.own):
                worked.add(now - self.seen[0], max(at - self.seen[1], 0.0))  # a stage in rounds begins anew
        self.seen = now, at
        if self.all.share <= 0:
            return self._percent(at), None
        own = self.own if 0 < self.own.share >= OWN * share else self.all
        left, further = own.pace * share * (1.0 - part), names[names.index(stage) + 1 :]
        for name in self.over.keys() & {stage, *further}:
            until = begun + self.over[name] - now
            earlier = further[: further.index(name)] if name in further else []
            left = max(until, self._others(earlier) + (left if name in further else 0.0))
            further = [other for other in further if other not in (name, *earlier)]
        return self._percent(at), left + self._others(further)

    def _percent(self, at: float) -> float:
        whole = sum(self.shares.values())
        return min(100.0 * at / whole, 100.0) if whole else 100.0

    def _others(self, names: Iterable[str]) -> float:
        """Seconds of stages to come, at the pace of all so far."""
        return self.all.pace * sum(self.shares[name] for name in names)


@dataclass(slots=True)
class _Worked:
    """Time that was worked, and what was done in it."""

    seconds: float = 0.0
    share: float = 0.0

    def add(self, seconds: float, share: float) -> None:
        """What was found done, in no time, is no work."""
        if share <= FOUND * seconds:
            self.seconds += seconds
            self.share += share

    @property
    def pace(self) -> float:
        """Seconds a per cent."""
        return self.seconds / self.share


def duration(seconds: float) -> str:
    """In words, rounded: at least "about 10 s"."""
    minutes = seconds / 60
    if minutes < 1.5:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
