"""CrySPY's random search or evolutionary algorithm, its structures relaxed through ASE:
`python -m benchmarks.baselines.cryspy_search GaAs --algorithm EA --relaxer chgnet --out OUT`.

CrySPY (Yamashita et al., Sci. Technol. Adv. Mater. Meth. 1, 87 (2021)) is run in its high-throughput mode,
one structure at a time. It searches at a given number of atoms: each number of formula units gets an equal
share of the time, the smallest cell first, and what one leaves goes to the next. The numbers of the
evolutionary algorithm are those of its documentation's examples.
"""

from __future__ import annotations

import importlib.util
import multiprocessing as mp
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from benchmarks.baselines.by_ase import relaxer
from benchmarks.baselines.record import Asked, Record, asked
from benchmarks.core_time import core_seconds
from csp.errors import CspError, MissingError
from csp.threads import one_thread_after_fork

__all__ = ["ALGORITHMS", "check_cryspy", "input_file"]

ALGORITHMS = ("RS", "EA")
AT_ONCE = 20  # random structures that are generated before they are relaxed
STOP = "STOP_CRYSPY_HT"  # a file that CrySPY looks for after each structure
LOOKS = 0.5  # seconds between looks at the time
EVOLUTION = {"n_pop": 20, "n_crsov": 10, "n_perm": 2, "n_strain": 2, "n_rand": 6, "n_elite": 2}
RELAX = """from pathlib import Path

from benchmarks.baselines.by_ase import relaxer
from benchmarks.baselines.record import Record

optimize_structure = relaxer({model!r}, Record(Path({folder!r}), {process})).relax_for_cryspy
"""


def check_cryspy() -> None:
    """Raise MissingError where CrySPY with its high-throughput mode is not installed; another package has its
    name."""
    if (
        importlib.util.find_spec("cryspy") is None
        or importlib.util.find_spec("cryspy.high_throughput") is None
    ):
        raise MissingError("CrySPY is not installed: pip install csp-cryspy, or make baselines.")


def input_file(ask: Asked, units: int, structures: int) -> str:
    """The text of `cryspy.in` for so many formula units, and so many structures in all of a random search."""
    target = ask.target
    symbols = " ".join(chemical_symbols[number] for number in target.numbers)
    sections: dict[str, dict[str, Any]] = {
        "basic": {"algo": ask.algorithm, "calc_code": "ASE", "njob": 1},
        "structure": {"atype": symbols, "nat": " ".join(str(units * count) for count in target.counts)},
        "ASE": {"ase_python": "relax.py"},
        "option": {"seed": ask.seed + units, "check_mindist_opt": False},  # what fails it ends the evolution
    }
    if ask.algorithm == "EA":
        numbers = dict(EVOLUTION)
        if len(target.numbers) == 1:  # nothing to permute
            numbers |= {"n_perm": 0, "n_rand": EVOLUTION["n_rand"] + EVOLUTION["n_perm"]}
        sections["EA"] = numbers | {"slct_func": "TNM", "maxgen_ea": 0}
    else:
        sections["basic"]["tot_struc"] = structures
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def _search(ask: Asked, units: int, until: float) -> None:
    """Have CrySPY search at so many formula units until cores have worked for so many seconds.

    Raises:
        CspError: It ended by itself before.
    """
    folder, structures = ask.out / f"z{units}", 0
    (folder / "calc_in").mkdir(parents=True)
    relax = RELAX.format(model=ask.relaxer, folder=str(ask.out), process=os.getpid())
    (folder / "calc_in" / "relax.py").write_text(relax, encoding="utf-8")
    while core_seconds() < until:
        structures += AT_ONCE
        (folder / "cryspy.in").write_text(input_file(ask, units, structures), encoding="utf-8")
        process = mp.get_context("fork").Process(target=_cryspy, args=(folder,))
        process.start()
        while process.is_alive():
            process.join(LOOKS)
            if core_seconds() > until:
                (folder / STOP).touch()
        if process.exitcode:
            raise CspError(f"CrySPY ended with code {process.exitcode}; its log is in {folder}.")


def _cryspy(folder: Path) -> None:
    """CrySPY's program, in a process of its own with the weights of this one."""
    os.chdir(folder)
    sys.argv = ["cryspy-ht"]
    runpy.run_module("cryspy.scripts.cryspy_ht", run_name="__main__")


def main() -> None:
    ask = asked()
    check_cryspy()
    one_thread_after_fork()
    relaxer(ask.relaxer, Record(ask.out, os.getpid()))  # before anything is forked
    sizes = [units for units in ask.target.formula_units if units * ask.target.n_atoms > 1]
    for k, units in enumerate(sizes):
        now = core_seconds()
        _search(ask, units, now + (60 * ask.minutes - now) / (len(sizes) - k))


if __name__ == "__main__":
    main()
