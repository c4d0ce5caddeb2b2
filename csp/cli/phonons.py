"""`csp phonons`: are crystals of one's own stable against small displacements? Thin: reads, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from csp.cli.console import note, output
from csp.cli.options import Device
from csp.cli.progress import progress

if TYPE_CHECKING:
    pass

__all__ = ["phonons"]


def phonons(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files or folders of crystals (CIF, POSCAR, extxyz …)", metavar="CRYSTALS..."),
    ],
    model: Annotated[
        str, typer.Option(help="Potential, by name; auto: nequix-oam-1 if it can be had, else chgnet")
    ] = "auto",
    length: Annotated[
        float, typer.Option(min=3, max=50, help="Å, about the length of the supercells")
    ] = 10.0,
    pressure: Annotated[float, typer.Option(min=-50, max=1000, help="GPa")] = 0.0,
    symprec: Annotated[
        float, typer.Option(min=1e-5, max=1, help="Å, within which a crystal is made symmetric first")
    ] = 0.1,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Relax along imaginary modes what lies below")
    ] = True,
    device: Device = "auto",
    out: Annotated[
        Path, typer.Option(help="Folder of figures and tables; what is done there is not done again")
    ] = Path("out/phonons"),
) -> None:
    """Are crystals stable against small displacements, and what do imaginary modes lead to?"""
    from csp.library.given import read_crystals

    found = read_crystals(files)
    for name, why in found.left_out.items():
        note(f"{name}: {why}", word="left out:")
    with progress() as tell:
        from csp.device import resolve_device
        from csp.report.phonons import write_vibrated
        from csp.search.vibrate import vibrate
        from surrogates.zoo import load_model

        potential = load_model(model, resolve_device(device))
        chains = vibrate(
            found.crystals,
            potential,
            out,
            length=length,
            pressure=pressure,
            symprec=symprec,
            follow=follow,
            told=lambda done, total: tell("computing phonons", done, total),
        )
    rows = write_vibrated(out, found.names, chains, potential.name)
    output.print(_table(rows, str(potential.label)), soft_wrap=False)
    for chain, name in zip(chains, found.names, strict=True):
        for one in chain:
            if one.why_none:
                note(f"{name} has no phonons: {one.why_none}.", to=output)
    output.print(f"{out}/phonons/phonons.json, figures and structures/ written.")


def _table(rows: list[dict[str, Any]], label: str) -> Table:
    from csp.report.terminal import plain_table

    table = plain_table(
        title=f"Harmonic phonons · {label}",
        caption="THz: lowest frequency, of imaginary modes below 0; F: free energy of the vibrations; "
        "a crystal below one with imaginary modes is what these lead to",
        title_justify="left",
        caption_justify="left",
    )
    names = ("crystal", "space group", "THz", "", "F 300 K", "F 1000 K", "ΔE meV/at")
    for name in names:
        table.add_column(name, justify="left" if name in names[:2] else "right", no_wrap=True)
    for row in rows:
        free = [row["free_energy_300k_ev_per_atom"], row["free_energy_1000k_ev_per_atom"]]
        lowest, above = row["lowest_frequency_thz"], row["above_given_ev_per_atom"]
        table.add_row(
            row["name"],
            row["spacegroup"],
            "" if lowest is None else f"{lowest:z.1f}",
            row["dynamic_stability"],
            *("" if value is None else f"{1000 * value:.1f}" for value in free),
            "" if above is None else f"{1000 * above:z.1f}",
        )
    return table
