"""Phonons of the first crystals of a ranking, and what imaginary modes lead to, by what the store holds.

Everything is stored under the crystal that it is of, so that it serves whatever rank the crystal has, and in
whichever round. A round takes those of the first that were not yet seen, settles each (relaxes it exactly
symmetric until its forces are small), has the forces of its displaced supercells computed, checks modes that
are imaginary by interpolation only, and relaxes what
lies along its imaginary modes. What comes out lower joins the ranking in the place of the saddle, and the
next round looks at what is first then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from csp.crystals import Crystals
from csp.lattice_dynamics.checking import checked, to_check
from csp.lattice_dynamics.displacements import LARGEST, Displaced, displaced, symmetric_start
from csp.lattice_dynamics.following import descents
from csp.lattice_dynamics.phonons import Harmonic, Phonons
from csp.protocols import EnergyModel
from csp.relaxation.rattle import REAL_GAIN
from csp.relaxation.relax import RelaxationResult, enthalpy
from csp.search.stages import BY_NAME, PHONON_STEPS, Share, shards
from csp.search.work import Told, Work
from csp.settings import SearchSettings
from csp.store.store import Store

__all__ = ["MOST_ROUNDS", "MOST_STEPS", "Dynamics", "Lower", "silent"]

MOST_ROUNDS = 10
SETTLED_MAX_FORCE = 1e-3  # eV/Å; far below what a displacement of 0.01 Å makes
FOLLOWED_MAX_FORCE = 5e-3  # eV/Å; along a soft mode forces are small
MOST_STEPS = 200


def silent(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, eq=False)
class Lower:
    """What lies below a saddle.

    Attributes:
        result: Crystals that imaginary modes led to, lower than the saddle.
        ways: Of each, along which mode, in words.
        saddle: eV/atom, energy or enthalpy of the saddle.
        space_group: Number of the saddle's.
    """

    result: RelaxationResult
    ways: list[str]
    saddle: float
    space_group: int


@dataclass(frozen=True)
class Dynamics:
    """Of the crystals of one search.

    Attributes:
        settings: Of the search: how many crystals, how large supercells, pressure, seed, symprec.
        store: Holds what is done.
        model: Gives energies and forces.
        told: Called with (done, total) of the steps of a round's crystals.
    """

    settings: SearchSettings
    store: Store
    model: EnergyModel
    told: Told = silent
    _known: dict[str, Harmonic] = field(default_factory=dict, repr=False)

    # -- rounds -------------------------------------------------------------------------------------

    @property
    def _rounds(self) -> str:
        return f"phonons {self.settings.phonons} {self.settings.phonon_length:g}"

    @property
    def closed(self) -> int:
        """Rounds that are done, with as many crystals and supercells as large as the settings ask for."""
        return len(self.store.done(self._rounds)) if self.settings.phonons else 0

    def do(self, number: int, step: str, crystals: Crystals, share: Share) -> None:
        """A share of a step of a round, whose crystals these are."""
        if step == "followed":
            if not share[0]:
                self.store.close(self._rounds, number)
            return
        before, total = len(crystals) * PHONON_STEPS.index(step), len(crystals) * (len(PHONON_STEPS) - 1)
        for k in range(len(crystals)):
            self.told(before + k, total)
            # so that all workers have something to do, however few shards a crystal has
            turned = ((share[0] - k) % share[1], share[1])
            getattr(self, f"_{step}")(crystals[k], turned)
        self.told(before + len(crystals), total)

    def _settle(self, crystal: Crystals, share: Share) -> None:
        (i,) = crystal.ids()
        start = symmetric_start(crystal, self.settings.symprec)
        self._relax(f"settle {i}", [i], start, share, SETTLED_MAX_FORCE)

    def _displace(self, crystal: Crystals, share: Share) -> None:
        self._forces(self._stage("displace", crystal), self._displaced(crystal), share)

    def _check(self, crystal: Crystals, share: Share) -> None:
        harmonic = self.harmonic(crystal)
        if harmonic is not None:
            self._forces(self._stage("check", crystal), to_check(harmonic), share)

    def _forces(self, stage: str, cells: Displaced | None, share: Share) -> None:
        """Compute and store a share of the forces of supercells."""
        if cells is None:
            return
        store = self.store
        written, n = store.done(stage), len(cells.crystals)
        for shard, part in shards(n, BY_NAME["phonons"].shard_on(self.model.device.type), share):
            if shard not in written:
                some = cells.crystals[part.start : part.stop]
                found = self.model.evaluate(some.to(self.model.device), forces=True)
                store.write_forces(stage, shard, some, found, part.start)

    def _follow(self, crystal: Crystals, share: Share) -> None:
        harmonic = self._saddle(crystal)
        if harmonic is None:
            return
        starts = descents(harmonic, self.settings.seed).crystals
        self._relax(self._stage("follow", crystal), starts.ids(), starts, share, FOLLOWED_MAX_FORCE)

    def _relax(self, name: str, ids: Sequence[str], starts: Crystals, share: Share, force: float) -> None:
        Work(self.settings, self.store).relax(
            "refine",
            self.model,
            ids,
            starts,
            share,
            silent,
            name=name,
            max_steps=MOST_STEPS,
            max_force=force,
        )

    def _stage(self, step: str, crystal: Crystals) -> str:
        (i,) = crystal.ids()
        return f"{step} {self.settings.phonon_length:g} {i}"

    # -- what is known --------------------------------------------------------------------------------

    def settled(self, crystal: Crystals) -> RelaxationResult | None:
        """The crystal as its phonons are of; None where it was not relaxed, or in vain."""
        (i,) = crystal.ids()
        _, relaxed = self.store.relaxed(f"settle {i}", self.model.label)
        return relaxed if relaxed.with_energy() else None

    def _displaced(self, crystal: Crystals) -> Displaced | None:
        settled = self.settled(crystal)
        return None if settled is None else displaced(settled.crystals, self.settings.phonon_length)

    def harmonic(self, crystal: Crystals) -> Harmonic | None:
        """The force constants of a crystal; None where not all forces are stored."""
        return self._known_harmonic(self._stage("displace", crystal), lambda: self._displaced(crystal))

    def _known_harmonic(self, stage: str, cells_of: Callable[[], Displaced | None]) -> Harmonic | None:
        if stage not in self._known:
            forces = self.store.forces(stage, self.model.label)
            cells = cells_of() if forces else None
            if cells is None or len(forces) != len(cells.crystals):
                return None
            self._known[stage] = Harmonic(cells, [one.numpy() for one in forces])
        return self._known[stage]

    def _of_check(self, crystal: Crystals) -> Harmonic | None:
        """The force constants that tell whether a mode that is imaginary by interpolation is so."""
        harmonic = self.harmonic(crystal)
        if harmonic is None:
            return None
        return self._known_harmonic(self._stage("check", crystal), lambda: to_check(harmonic))

    def _saddle(self, crystal: Crystals) -> Harmonic | None:
        """The force constants whose imaginary modes are followed, if there are any."""
        return self._of_check(crystal) or self.harmonic(crystal)

    def phonons(self, crystal: Crystals) -> Phonons | None:
        """Those of a crystal; None where not all forces are stored."""
        harmonic, check = self.harmonic(crystal), self._of_check(crystal)
        if harmonic is None or check is None:
            return None if harmonic is None else harmonic.phonons
        return checked(harmonic.phonons, check)

    def why_none(self, crystal: Crystals) -> str:
        """Why a crystal has no phonons, a clause."""
        (i,) = crystal.ids()
        if not self.store.done(f"settle {i}"):
            return "they were not computed yet"
        if self.settled(crystal) is None:
            return "it could not be relaxed"
        if self._displaced(crystal) is None:
            return f"its supercell would hold more than {LARGEST:,} atoms; give a smaller `phonon_length`"
        return "they were not computed to the end"

    def per_atom(self, relaxed: RelaxationResult) -> Tensor:
        """float64 [B]: energy, or enthalpy under pressure, eV/atom."""
        crystals = relaxed.crystals
        return enthalpy(relaxed.energy, crystals.volumes, self.settings.pressure) / crystals.n_atoms

    def lower(self, crystal: Crystals) -> Lower | None:
        """What was found below a crystal along its imaginary modes; None where there is nothing."""
        stage, settled = self._stage("follow", crystal), self.settled(crystal)
        ids, relaxed = self.store.relaxed(stage, self.model.label)
        harmonic = self._saddle(crystal) if ids and settled is not None else None
        if harmonic is None or settled is None:
            return None
        saddle, per_atom = float(self.per_atom(settled)[0]), self.per_atom(relaxed)
        kept = [k for k in relaxed.with_energy() if saddle - float(per_atom[k]) >= REAL_GAIN]
        if not kept:
            return None
        starts = descents(harmonic, self.settings.seed)
        ways = dict(zip(starts.crystals.ids(), starts.ways, strict=True))
        return Lower(
            relaxed.take(kept),
            [str(ways[ids[k]]) for k in kept],
            saddle,
            harmonic.displaced.space_group,
        )
