"""What finished searches knew of the crystals that they ranked, kept so that orders can be fitted and judged
without searching again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ground_truth import Truth
from benchmarks.recovery.benchmark import SETTINGS_FILE, Recovery, RecoverySettings
from csp.crystallography.symmetry import space_groups, standard_cells
from csp.engine import build
from csp.errors import InputError, MissingError
from csp.files import write_text
from csp.matching.matcher import Matcher
from csp.ranking.probability import SCORED, features
from csp.search.conclude import Conclusion
from csp.target import Target

__all__ = ["COLUMNS", "By", "RankedFeatures", "first", "read_features", "read_runs", "write_features"]

COLUMNS = ("per_atom", *SCORED, "duplicates", "space_group", "orbits", "atoms", "volume")
DECIMALS = 5
SYMPREC = 0.05

By = tuple[str, str]
"""A model's name and label."""


@dataclass(frozen=True, slots=True, eq=False)
class RankedFeatures:
    """One search by the energies of one model.

    Attributes:
        prototype: The answer's, as far as halves are told by it: amounts, space group and atoms in its cell.
        known: float64 [R, C], `COLUMNS` of each ranked crystal, lowest first: eV/atom above the lowest, what
            `csp.ranking.probability.scores` has, further candidates that ended in it, its space group (0: the
            analysis fails), occupied orbits and atoms in the primitive cell, Å³/atom.
        answers: bool [R], is it the answer?
    """

    formula: str
    prototype: str
    known: Tensor
    answers: Tensor

    @property
    def features(self) -> Tensor:
        """float64 [R, F], see `csp.ranking.probability.features`."""
        return features(self.known[:, 0], self.known[:, 1 : 1 + len(SCORED)])


def read_runs(
    runs: Sequence[Path], targets: Path, library: Path | None, say: Callable[[str], None]
) -> dict[By, list[RankedFeatures]]:
    """The finished searches of recovery benchmarks, as the model that finished ranks them, and as the
    surrogate before it, if there was one, ranked what it had relaxed."""
    found: dict[By, list[RankedFeatures]] = {}
    for benchmark in (_benchmark(run, targets, library) for run in runs):
        done = {outcome.name for outcome in benchmark.outcomes() if outcome.score is not None}
        if not done:
            raise InputError(f"No search in {benchmark.out} is finished.")
        models = [(model.name, str(model.label)) for model in reversed(benchmark.models)]
        for k, truth in enumerate((t for t in benchmark.truths.truths if t.name in done), start=1):
            of_models = list(zip(models, _of(benchmark, truth), strict=True))
            for model, one in of_models:
                found.setdefault(model, []).append(one)
            places = ", ".join(f"{name} {first(one.answers) or '-'}" for (name, _), one in of_models)
            say(f"{k:4d}/{len(done)}  {truth.formula:20} by energy of {places}")
    return found


def _benchmark(run: Path, targets: Path, library: Path | None) -> Recovery:
    path = run / SETTINGS_FILE
    if not path.is_file():
        raise MissingError(f"{run} holds no recovery benchmark.")
    asked = json.loads(path.read_text(encoding="utf-8"))
    settings = RecoverySettings.read(
        targets=targets,
        library=library,
        budget=asked["budget"]["name"],
        **{name: asked[name] for name in ("generators", "surrogate", "relaxer", "seed")},
    )
    return Recovery.begin(settings, run, resume=True)


def _of(benchmark: Recovery, truth: Truth) -> Iterator[RankedFeatures]:
    """By each model, the last one first."""
    settings = benchmark.settings.search(truth.formula, benchmark.settings.generators)
    folder = benchmark.out / "runs" / truth.name
    search, _ = build(settings, settings.target(), folder, resume=True)
    unrattled = settings.model_copy(update={"rattled": 0})  # only the last model rattled
    yield _features(truth, search.conclusion)
    if len(search.models) > 1:
        alone = replace(search, models=search.models[:1], settings=unrattled)
        yield _features(truth, alone.conclusion)


def _features(truth: Truth, conclusion: Conclusion) -> RankedFeatures:
    found = conclusion.features()
    crystals, cells = found.crystals, standard_cells(found.crystals, SYMPREC)
    shapes = [
        (0, n, n) if cell is None else (cell.space_group, len(set(cell.orbits.tolist())), len(cell.numbers))
        for cell, n in zip(cells, crystals.n_atoms.tolist(), strict=True)
    ]
    columns = [
        (found.per_atom - found.per_atom.amin() if len(crystals) else found.per_atom)[:, None],
        found.ln_p,
        found.duplicates[:, None],
        torch.tensor(shapes, dtype=torch.float64).reshape(-1, 3),
        (crystals.volumes / crystals.n_atoms)[:, None],
    ]
    amounts = "-".join(map(str, Target.parse(truth.formula).anonymous))
    prototype = f"{amounts} {space_groups(truth.crystal, SYMPREC)[0]} {int(truth.crystal.n_atoms[0])}"
    known = torch.cat([column.double() for column in columns], 1)
    return RankedFeatures(truth.formula, prototype, known, Matcher.DEFAULT.fits(truth.crystal, crystals))


def first(answers: Tensor) -> int | None:
    """The rank of the first, counted from 1."""
    places = answers.nonzero().flatten().tolist()
    return places[0] + 1 if places else None


# -- the file -----------------------------------------------------------------------------------------


def write_features(path: Path, found: Mapping[By, Sequence[RankedFeatures]]) -> None:
    """A line of JSON for each search."""
    rows = [
        {
            "model": model,
            "label": label,
            "formula": one.formula,
            "prototype": one.prototype,
            "answers": one.answers.nonzero().flatten().tolist(),
            "known": [[round(value, DECIMALS) for value in row] for row in one.known.tolist()],
        }
        for (model, label), searches in found.items()
        for one in searches
    ]
    write_text(path, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def read_features(path: Path) -> dict[By, list[RankedFeatures]]:
    """What `write_features` wrote.

    Raises:
        MissingError: There is no such file.
    """
    if not path.is_file():
        raise MissingError(f"There is no {path}.")
    found: dict[By, list[RankedFeatures]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        known = torch.tensor(row["known"], dtype=torch.float64).reshape(-1, len(COLUMNS))
        answers = torch.zeros(len(known), dtype=torch.bool)
        answers[row["answers"]] = True
        one = RankedFeatures(row["formula"], row["prototype"], known, answers)
        found.setdefault((row["model"], row["label"]), []).append(one)
    return found
