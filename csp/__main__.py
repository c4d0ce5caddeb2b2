"""The one program, `csp` and `python -m csp`, of all packages' commands.

Exit codes: 0, 1 what failed, 2 wrong input, 3 something missing on the machine, 4 little or nothing could be
ranked, 130 interrupted (Ctrl-C), 143 ended (SIGTERM). A command's module is imported when the command is
asked for, by its name in `COMMANDS`.
"""

from __future__ import annotations

import sys

from csp.errors import CspError, of_system
from csp.threads import wait_asleep

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "predict": ("csp.cli.predict:predict", "Propose, relax and rank the crystals of a formula."),
    "match": ("csp.cli.predict:match", "Is my crystal among the ranked ones, and at which rank?"),
    "explore": (
        "csp.cli.explore:explore",
        "Find the stable phases of a whole chemical system, from its elements alone.",
    ),
    "xrd": ("csp.cli.xrd:xrd", "Which crystal was a powder pattern measured of?"),
    "phonons": (
        "csp.cli.phonons:phonons",
        "Are crystals stable against small displacements, and what do imaginary modes lead to?",
    ),
    "properties": (
        "csp.cli.properties:properties",
        "What crystals, or formulas, are good for, by models of properties.",
    ),
    "up": ("flows.cli:up", "Start the server and work on what is submitted, until Ctrl-C."),
    "submit": ("flows.cli:submit", "Have a formula predicted by `csp up`, or by a server's workers."),
    "status": ("flows.cli:status", "What runs, waits and has been done."),
    "cancel": ("flows.cli:cancel", "Cancel runs that wait or work."),
    "results": (
        "flows.cli:results",
        "The last finished prediction of a formula, by `csp up` or into the folder out, and its files.",
    ),
    "library": ("csp.cli.library:app", "The library of known crystals that templates come from."),
    "benchmark": ("benchmarks.cli:app", "How well and how fast the engine works."),
    "benchmark baselines": (
        "benchmarks.equal_time.command:baselines",
        "Which known crystals do PyXtal, random cells, CrySPY and ours find in equal time, and when first?",
    ),
    "benchmark cost": (
        "benchmarks.cost.command:cost",
        "What time and memory does a search take, by atoms in the cell, and where does the time go?",
    ),
    "benchmark deep": (
        "benchmarks.deep.command:deep",
        "Does a search that goes on in rounds find known crystals, and know when it is done?",
    ),
    "benchmark explore": (
        "benchmarks.explore.command:explore",
        "Are the known stable phases of chemical systems found, all that holds their elements left out?",
    ),
    "benchmark phonons": (
        "benchmarks.phonons.cli:phonons",
        "Are Si, NaCl and MgO stable, with DFT's frequencies, and does cubic SrTiO3 tilt?",
    ),
    "benchmark pressure": (
        "benchmarks.pressure.cli:pressure",
        "Is a phase that is known at a pressure among the first three of a search at it?",
    ),
    "benchmark properties": (
        "benchmarks.properties.command:properties",
        "How well property models foretell, and what few values are worth with them. Goes on where it was.",
    ),
    "benchmark symmetry": (
        "benchmarks.symmetry.command:symmetry",
        "How much faster is a search whose models compute one atom of each orbit and keep their pairs?",
    ),
    "benchmark flows": (
        "flows.cli:measure",
        "What Prefect costs: starts, submission, a flow around a search, empty tasks, many formulas at once.",
    ),
    "benchmark soak": (
        "flows.soak.command:soak",
        "Is anything lost or done twice while workers, server, database and disk fail?",
    ),
    "train": ("csp.cli.train:app", "Make training data and train the models."),
    "models": ("csp.cli.models:app", "The library of models, of energies and of properties."),
    "labellers": ("csp.cli.labellers:app", "DFT codes and potentials that label crystals."),
}
"""By name, and by the names of group and command: where each is, and its line in the help."""


def main() -> None:
    """Entry point of `csp`."""
    try:  # from the first moment: what is slow to import is imported in here
        wait_asleep()
        from csp.cli.plain_letters import say_it_in_plain_letters
        from csp.cli.program import program
        from csp.device import keep_freed_memory

        say_it_in_plain_letters()
        keep_freed_memory()
        program(COMMANDS).main(prog_name="csp")
    except CspError as error:
        from csp.cli.console import fail

        fail(error)
        sys.exit(error.exit_code)
    except OSError as error:
        from csp.cli.console import fail

        fail(of_system(error))
        sys.exit(1)
    except KeyboardInterrupt:  # before there was a command that knows what is done
        print("csp: Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
