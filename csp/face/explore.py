"""Whole chemical systems for work in Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

from csp.cli.console import console
from csp.errors import InputError
from csp.face.keywords import check_keyword
from csp.systems.answer import Answer, Told
from csp.systems.exploration import Exploration
from csp.systems.files import write_answer
from csp.systems.settings import ExploreSettings
from csp.systems.state import Searched
from csp.systems.wish import Wished

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure

__all__ = ["Explored", "explore"]


@dataclass(frozen=True, repr=False)
class Explored(Sequence[Told]):
    """The phases of a system: those on the hull first, then those near it.

    Attributes:
        answer: All that is told.
    """

    answer: Answer

    def __len__(self) -> int:
        return len(self.answer.phases)

    @overload
    def __getitem__(self, index: int) -> Told: ...

    @overload
    def __getitem__(self, index: slice) -> list[Told]: ...

    def __getitem__(self, index: int | slice) -> Told | list[Told]:
        return self.answer.phases[index]

    def __iter__(self) -> Iterator[Told]:
        return iter(self.answer.phases)

    @property
    def stable(self) -> list[Told]:
        """The phases on the hull."""
        return self.answer.stable

    @property
    def wished(self) -> list[Wished]:
        """The phases by what was wished for, with its value and σ; none where nothing was."""
        return self.answer.wished

    @property
    def phase_diagram(self) -> PhaseDiagram:
        """pymatgen's, of the lowest crystal of each composition.

        Raises:
            InputError: There is none, for want of a crystal of an element.
        """
        if self.answer.diagram is None:
            raise InputError(self.answer.sentences()[0])
        return self.answer.diagram.pymatgen

    def structure(self, index: int) -> Structure:
        """The crystal of a phase, as pymatgen structure."""
        return self.answer.phases[index].phase.crystal.structures()[0]

    def __repr__(self) -> str:
        lines = [" ".join(self.answer.sentences())]
        for one in self.answer.phases:
            place = "stable" if one.stable else f"{1000 * one.above:.0f} meV/atom above the hull"
            lines.append(f"{one.number:3d}  {one.phase.name}: {place}")
        return "\n".join(lines)


def explore(
    system: str,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Explored:
    """Find the stable phases of a whole chemical system.

    Args:
        system: For example "Li-P-S", "Li2S-P2S5", "LiFePO4 with Na" or "Li3PS4,Li7P3S11".
        out: Folder of the results, which an exploration that was interrupted goes on from; none: nothing is
            left on the disk.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        resume: Go on with the exploration in `out`; where none is, a new one begins.
        progress: Say on stderr what each search came to.
        settings: All others of `csp.systems.settings.ExploreSettings`, for example searches=20.

    Raises:
        InputError: What was asked for is wrong; before any work.
        MissingError: The library, a model or a device is not there.
    """
    known = [*inspect.signature(explore).parameters, *ExploreSettings.model_fields]
    for name in settings:
        check_keyword("csp.explore", name, [name for name in known if name != "settings"])
    if out is not None and not isinstance(out, (str, os.PathLike)):
        raise InputError(f"must be a path (got {out!r}).", setting="out")
    if resume and out is None:
        raise InputError("An exploration is resumed from its folder: name it as out.")
    asked = ExploreSettings.read(system=system, **{k: v for k, v in settings.items() if v is not None})
    if out is not None:
        return _explored(asked, Path(out), device, resume, progress)
    with TemporaryDirectory(prefix="csp-") as folder:
        return _explored(asked, Path(folder), device, resume, progress)


def _explored(settings: ExploreSettings, out: Path, device: str, resume: bool, progress: bool) -> Explored:
    def heard(searched: Searched, now: Exploration) -> None:
        if progress:
            found = searched.why_not or f"{searched.ranked} crystals"
            console.print(f"{searched.formula} {searched.level}: {found}, {searched.seconds:.0f} s")

    exploration = Exploration.begin(settings, out, device=device, resume=resume)
    answer = Answer(exploration, exploration.run(heard=heard))
    write_answer(answer)  # and all that is read from the folder is read, should it go
    return Explored(answer)
