"""`csp library`: the known crystals that templates come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import output
from csp.cli.progress import progress
from csp.errors import InputError

__all__ = ["app"]

app = typer.Typer(
    help="The library of known crystals that templates come from.", no_args_is_help=True, add_completion=False
)


@app.command("pull")
def library_pull(
    out: Annotated[Path, typer.Argument(help="Library file to write (Parquet)")],
    provider: Annotated[
        str,
        typer.Option(
            help="mp, alexandria, oqmd, cod, jarvis, …: a provider of OPTIMADE, or the address of any server"
        ),
    ] = "mp",
    elements: Annotated[
        str | None, typer.Option(help="Only crystals of these elements or some of them: Mo,S")
    ] = None,
    ratio: Annotated[str | None, typer.Option(help="Only crystals of this ratio: ABC3")] = None,
    max_atoms: Annotated[int | None, typer.Option(min=1, help="Atoms in the cell, at most")] = None,
    own: Annotated[
        str | None, typer.Option("--filter", help="A filter in OPTIMADE's own words, beside the others")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Under which licence, where the provider does not say it")
    ] = "",
    add: Annotated[bool, typer.Option("--add", help="Put the crystals to those that the file has")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what an earlier try of the same pull has kept")
    ] = False,
    page: Annotated[int, typer.Option(min=1, max=10_000, help="Entries asked for at once")] = 500,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MP_API_KEY",
            show_envvar=True,
            help="Your key of the Materials Project: adds its own hull distances and what is only computed "
            "(needs the extra mp)",
        ),
    ] = None,
) -> None:
    """Get a library from a database that speaks OPTIMADE. A pull that stopped goes on."""
    from csp.library.filters import question
    from csp.library.materials_project import own_fields
    from csp.library.optimade import Client, resolve
    from csp.library.pulling import pull

    query = question(
        elements=read_elements(elements) if elements else (),
        ratio=read_ratio(ratio) if ratio else (),
        max_atoms=max_atoms,
        own=own or "",
    )
    source = resolve(provider)
    enrich = own_fields(api_key) if api_key and source.name == "mp" else list
    with Client(source, page) as client, progress() as tell:
        report = pull(
            client,
            query,
            out,
            licence=licence,
            add=add,
            restart=restart,
            enrich=enrich,
            progress=lambda done, total: tell(f"pull from {source.name}", done, total),
        )
    output.print(str(report))


@app.command("use")
def library_use(
    library: Annotated[Path | None, typer.Argument(help="Library file")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take the choice back")] = False,
) -> None:
    """Choose the library of searches that name none."""
    from csp.library.chosen import choose, chosen, forget

    if none:
        forget()
    elif library is not None:
        choose(library)
    output.print(f"Searches that name no library use {chosen() or 'what is asked on demand'}.")


@app.command("import")
def library_import(
    source: Annotated[Path, typer.Argument(help="Folder of CIFs, extxyz, ASE database or Parquet")],
    out: Annotated[Path, typer.Argument(help="Library file to write (Parquet)")],
    source_name: Annotated[str, typer.Option("--source", help="Where the crystals are from")],
    licence: Annotated[str, typer.Option("--licence", help="Under which licence")],
) -> None:
    """Make a library file of crystals of your own."""
    from csp.library.importing import import_structures

    with progress() as tell:
        report = import_structures(
            source,
            out,
            source_name=source_name,
            licence=licence,
            progress=lambda done, total: tell("import", done, total),
        )
    output.print(str(report))


@app.command("info")
def library_info(
    library: Annotated[
        Path | None, typer.Argument(help="Library file; none: yours, or the embedded prototypes")
    ] = None,
) -> None:
    """What is in a library, from where, under which licence, how old."""
    from csp.library.chosen import chosen
    from csp.library.library import Library

    output.print(str(Library.open(library or chosen()).info()))


def read_elements(text: str) -> list[str]:
    """ "Mo,S" or "Mo-S" to symbols.

    Raises:
        InputError: One is no element.
    """
    from ase.data import atomic_numbers

    symbols = [part for part in re.split(r"[,\s-]+", text) if part]
    for symbol in symbols:
        if not atomic_numbers.get(symbol):
            raise InputError(f"There is no element {symbol!r}.", setting="elements")
    return symbols


def read_ratio(text: str) -> list[int]:
    """ "ABC3" to 1, 1, 3.

    Raises:
        InputError: It is no ratio.
    """
    parts = re.findall(r"([A-Z])(\d*)", text)
    letters = [letter for letter, _ in parts]
    amounts = [int(n or 1) for _, n in parts]
    written = "".join(f"{letter}{n}" for letter, n in parts)
    if written != text or not parts or len(set(letters)) != len(letters) or min(amounts) < 1:
        raise InputError(f"{text!r} is no ratio; write one such as ABC3.", setting="ratio")
    return amounts
