"""A generator of your own in a search. Run it: python examples/own_generator.py

It stretches the cells of rock salt and caesium chloride by a random strain, for compositions of two elements
in equal amounts. It shows what a generator needs: a name, and a method that gives candidate number i for
(target, seed, i).
"""

from collections import Counter

import numpy as np

import csp
from csp.contracts import check_generator
from csp.protocols import Proposals, Provenance
from csp.target import Target

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])  # rows are lattice vectors
STARTS = {"rock salt": (FCC, 8.0), "caesium chloride": (np.eye(3), 2.0)}  # cell, atoms in its cube


class StretchedSalts:
    """Two parent structures, each candidate with a strain of its own."""

    name = "stretched-salts"

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        cells, provenance, failed = [], [], Counter()
        for index in range(start, start + n):
            if target.counts != (1, 1) or not target.allows_group(1) or 1 not in target.formula_units:
                failed["not two elements in equal amounts"] += 1
                continue
            random = np.random.default_rng([seed, index])  # depends on the seed and the index alone
            parent = ["rock salt", "caesium chloride"][index % 2]
            cell, atoms = STARTS[parent]
            edge = (18.0 * atoms) ** (1 / 3)  # Å; 18 Å³ for each atom
            cells.append(edge * cell @ (np.eye(3) + random.normal(0.0, 0.05, (3, 3))))
            provenance.append(Provenance(self.name, index, seed, space_group=1, why=f"a stretched {parent}"))
        crystals = csp.Crystals.from_arrays(
            cells, [[[0, 0, 0], [0.5, 0.5, 0.5]]] * len(cells), [target.numbers] * len(cells)
        )
        return Proposals(crystals, provenance, requested=n, failed=failed)


generator = StretchedSalts()

# Does it keep what the protocol promises? An error names the promise that is broken.
check_generator(generator, Target.parse("NaCl"))
print(f"{generator.name} keeps the contract.")

found = csp.predict(
    "NaCl",
    generators=[generator, "template"],  # objects and names
    candidates=20,
    relaxed=10,
    refined=3,
    rattled=0,
)
print(found)
