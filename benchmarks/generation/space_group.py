"""How well the space group is known from the composition.

Compositions of the held-out fold (`csp.training.splits`) of a library; nothing of them is in any training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines import space_group_classifier as plain_network
from csp.library.library import Library
from csp.training.splits import HELD_OUT, VALIDATION, composition_name, fold
from generators.random_symmetric.space_group_prior import SMOOTHING, model_weight
from generators.space_group.generator import load_space_group_model
from generators.space_group.model import SpaceGroupModel

__all__ = [
    "TOP",
    "Answers",
    "by_frequency",
    "by_model",
    "by_plain_network",
    "held_out_answers",
    "measure",
    "mixed",
    "tops",
]

TOP = (1, 10, 30)
AT_ONCE = 1024
MAX_ATOMS = 64  # in the cells of what the model, and so the plain network, is trained on


@dataclass(frozen=True, slots=True)
class Answers:
    """N compositions and the space groups of their answers.

    Attributes:
        number, count: int [N, k], atomic numbers and coprime amounts by ascending amount; amount 0 pads.
        group: int [N].
    """

    number: NDArray[np.int64]
    count: NDArray[np.int64]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.group)


def held_out_answers(library: Library, energies: Mapping[str, float]) -> tuple[Library, Answers]:
    """All compositions of the held-out fold that have an answer, and the library without the fold.

    The answer is the entry of the lowest known energy (eV/atom, by id); where none is known, the only entry.
    """
    rows = library.all_rows()
    number, count = library.compositions(rows)
    names = [composition_name(z, n) for z, n in zip(number.tolist(), count.tolist(), strict=True)]
    places: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        if fold(name) == HELD_OUT:
            places.setdefault(name, []).append(k)
    chosen = []
    for members in places.values():
        known = [(energies[i], k) for k in members if (i := str(library.material_id[rows[k]])) in energies]
        if known:
            chosen.append(min(known)[1])
        elif len(members) == 1:
            chosen.append(members[0])
    hidden = rows[np.array(sorted(k for members in places.values() for k in members), dtype=np.int64)]
    answers = Answers(number[chosen], count[chosen], library.space_group[rows[chosen]])
    return library.hiding(np.union1d(library.hidden, hidden)), answers


def by_frequency(library: Library, answers: Answers) -> NDArray[np.float64]:
    """p of the groups [N, 231]: how often each is that of an entry with the same amounts, smoothed with the
    frequencies over all entries."""
    overall = np.bincount(library.space_group[library.all_rows()], minlength=231) + 1.0
    overall[0] = 0.0
    overall *= SMOOTHING / overall.sum()
    of_amounts: dict[tuple[int, ...], NDArray[np.float64]] = {}
    scores = np.empty((len(answers), 231))
    for k, count in enumerate(answers.count.tolist()):
        amounts = tuple(sorted(n for n in count if n))
        if amounts not in of_amounts:
            own = library.space_group[library.rows(amounts)]
            of_amounts[amounts] = np.bincount(own, minlength=231) + overall
        scores[k] = of_amounts[amounts] / of_amounts[amounts].sum()
    return scores


@torch.no_grad()
def by_model(model: SpaceGroupModel, answers: Answers) -> NDArray[np.float64]:
    """p of the groups [N, 231] by the learned model."""
    parts = []
    for rows in np.array_split(np.arange(len(answers)), max(1, -(-len(answers) // AT_ONCE))):
        number, count = torch.from_numpy(answers.number[rows]), torch.from_numpy(answers.count[rows])
        parts.append(model.composition(number, count)[0].exp().numpy())
    return np.concatenate(parts).astype(np.float64)


def mixed(
    learned: NDArray[np.float64], frequency: NDArray[np.float64], answers: Answers, entries: int
) -> NDArray[np.float64]:
    """p of the groups [N, 231] that the generator draws from, with a library of so many entries."""
    share = model_weight(answers.count.sum(1), entries)[:, None]
    return share * learned + (1.0 - share) * frequency


def by_plain_network(library: Library, answers: Answers, seed: int) -> NDArray[np.float64]:
    """p of the groups [N, 231] by a plain network, trained on the library's crystals that the learned model
    was trained on; the validation fold says when to stop."""
    rows = library.all_rows()
    rows = rows[library.n_atoms[rows] <= MAX_ATOMS]
    number, count = library.compositions(rows)
    names = zip(number.tolist(), count.tolist(), strict=True)
    folds = np.array([fold(composition_name(z, n)) for z, n in names])
    validation, training = folds == VALIDATION, (folds != VALIDATION) & (folds != HELD_OUT)
    log_p = plain_network.train_classifier(
        (number[training], count[training]),
        library.space_group[rows[training]],
        (number[validation], count[validation]),
        library.space_group[rows[validation]],
        seed=seed,
    )
    return np.exp(log_p((answers.number, answers.count)))


def tops(scores: NDArray[np.float64], group: NDArray[np.int64]) -> dict[str, float]:
    """ "spacegroup_top_k": share of the answers among the k best of scores [N, 231]."""
    own = scores[np.arange(len(group)), group]
    place = (scores > own[:, None]).sum(1) + ((scores == own[:, None]).sum(1) - 1) / 2  # ties count by half
    return {f"spacegroup_top_{k}": float((place < k).mean()) for k in TOP}


def measure(library: Library, energies: Mapping[str, float], weights: Path, seed: int) -> dict[str, float]:
    """spacegroup_top_{1,10,30}.{learned,frequency,plain_network,mixed} and n.spacegroup."""
    rest, answers = held_out_answers(library, energies)
    learned, frequency = by_model(load_space_group_model(weights), answers), by_frequency(rest, answers)
    scores = {
        "learned": learned,
        "frequency": frequency,
        "plain_network": by_plain_network(rest, answers, seed),
        "mixed": mixed(learned, frequency, answers, len(rest)),
    }
    found = {f"{key}.{arm}": v for arm, s in scores.items() for key, v in tops(s, answers.group).items()}
    return found | {"n.spacegroup": len(answers)}
