"""`csp xrd`: which crystal was a powder pattern measured of? Thin: reads options, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from csp.cli.console import note, output
from csp.cli.progress import progress
from csp.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from csp.crystals import Crystals
    from csp.diffraction.sample import Identified

__all__ = ["xrd"]

SHOWN = 20  # crystals in the terminal


def xrd(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Out folder of a prediction, or files or folders of crystals (CIF, POSCAR, extxyz …), and "
            "the powder pattern (xy, xye, csv, xrdml, ras …) last",
            metavar="CRYSTALS... PATTERN",
        ),
    ],
    wavelength: Annotated[
        str | None, typer.Option(help="CuKa (both lines), CuKa1, CoKa … or Å; default: what the file says")
    ] = None,
    angles: Annotated[
        str | None, typer.Option("--range", help="Only these angles 2θ, degrees: 15-80")
    ] = None,
    impurities: Annotated[
        str | None,
        typer.Option(
            help="Other phases in the sample, formulas of the library's crystals or files: NaCl,TiO2"
        ),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(help="Parquet file of known crystals, for the impurities' formulas; default: yours"),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no database for crystals of an impurity's formula")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of figures and tables; default: pattern in the prediction's, or out/PATTERN"
        ),
    ] = None,
) -> None:
    """Which crystal was a powder pattern measured of?"""
    if len(files) < 2:
        raise InputError("Name crystals and, last, a powder pattern: csp xrd out/TiO2 pattern.xy.")
    *given, scan = files
    from csp.diffraction.read import read_pattern
    from csp.diffraction.sample import Sample
    from csp.library.given import named_phase
    from csp.library.library import Library
    from csp.report.pattern import write_patterns

    pattern = read_pattern(scan, wavelength, angles)
    rows, crystals, above = _crystals(given)
    names = [name for name in (impurities or "").replace(" ", "").split(",") if name]
    opened = None if library is None else Library.open(library)
    known = [(name, named_phase(name, opened, ask=not offline)) for name in names]
    with progress() as tell:
        found = Sample(pattern, known).identify(
            crystals, above, lambda done, total: tell("comparing with the pattern", done, total)
        )
    order = found.order
    rows = [{**rows[k], **found.fields(k)} for k in order]
    folder = out or (given[0] / "pattern" if above is not None else Path("out") / scan.stem)
    write_patterns(folder, found.take(order), crystals[order], rows)
    output.print(_table(found, rows), soft_wrap=False)
    for remark in found.remarks():
        note(remark, to=output)
    output.print(f"{folder}/pattern.json, pattern.csv and figures written.")


def _crystals(given: list[Path]) -> tuple[list[dict[str, Any]], Crystals, np.ndarray | None]:
    """What is known of each crystal, they, and, of a prediction, their energies above the lowest, eV/atom."""
    import numpy as np

    from csp.library.given import read_crystals
    from csp.report.results import RankedRun

    if len(given) == 1 and (given[0] / "ranked.json").is_file():
        run = RankedRun.read(given[0])
        results, crystals = run.results, run.crystals()
        if not results:
            raise InputError(f"The prediction in {given[0]} has no ranked crystals.")
        shown = ("rank", "id", "file", "spacegroup", "above_lowest_ev_per_atom")
        rows = [
            {"name": f"{r['rank']}  {r['spacegroup']}", **{name: r.get(name) for name in shown}}
            for r in results
        ]
        return rows, crystals, np.array([r["above_lowest_ev_per_atom"] for r in results], dtype=np.float64)
    found = read_crystals(given)
    for name, why in found.left_out.items():
        note(f"{name}: {why}", word="left out:")
    formulas = [structure.composition.reduced_formula for structure in found.crystals.structures()]
    rows = [{"name": n, "formula": f} for n, f in zip(found.names, formulas, strict=True)]
    return rows, found.crystals, None


def _table(found: Identified, rows: list[dict[str, Any]]) -> Table:
    pattern = found.measured.pattern
    beside = f" beside {', '.join(found.impurities)}" if found.impurities else ""
    table = Table(
        title=f"{pattern.name} · {pattern.radiation.name}{beside}",
        caption=f"none of these: {found.none:.0%}; Rwp with background and all phases, in %; "
        "explained: of the intensity above the background; missing: calculated, but not measured",
        header_style="bold",
    )
    energies = any("above_lowest_ev_per_atom" in row for row in rows)
    for name in ("crystal", "xrd %", "Rwp", "explained %", "missing %", *(["ΔE meV/at"] if energies else [])):
        table.add_column(name, justify="left" if name == "crystal" else "right", no_wrap=True)
    for row in rows[:SHOWN]:
        shares = [
            row[name] for name in ("probability_pattern", "r_wp", "pattern_explained", "pattern_missing")
        ]
        cells = ["" if share is None else f"{100 * share:.0f}" for share in shares]
        above = [f"{1000 * row['above_lowest_ev_per_atom']:.1f}"] if energies else []
        label = row["name"] if energies else f"{row['name']}  {row['formula']}"
        table.add_row(label, *cells, *above)
    return table
