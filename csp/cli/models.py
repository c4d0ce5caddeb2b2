"""`csp models`: the energy models that `--surrogate` and `--relaxer` can name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from csp import plugins
from csp.cli.console import in_options, output
from csp.errors import InputError, MissingError
from csp.files import read_text
from csp.report.terminal import plain_table

if TYPE_CHECKING:
    from surrogates.zoo import EnergyModelCard

__all__ = ["app"]

app = typer.Typer(
    help="The library of models, of energies and of properties.", no_args_is_help=True, add_completion=False
)

ERRORS = ("test_mae_", "left_out_mae.")  # what the names of a card's errors begin with

Name = Annotated[str, typer.Argument(help="Name of a model, a weights file of ours, or a matgl folder")]


@app.command("list")
def list_all() -> None:
    """What is there by name, and whether it is on this machine."""
    from surrogates import zoo
    from surrogates.potentials import catalogue as published

    cards = zoo.list_models()
    table = plain_table()
    table.add_column("model", no_wrap=True)
    table.add_column("energies; elements, licence", overflow="fold")
    table.add_column("here", justify="right")
    for card in cards:
        labels = [f"{card.functional}/{correction}" for correction in card.kinds.values()]
        about = f"{len(card.elements)} elements, {card.licence.split(';')[0]}"
        table.add_row(card.name, "\n".join([*labels, about]), _size([zoo.weights_file(card.name)]))
    for name, potential in published.PUBLISHED.items():
        label = f"{potential.functional}/{potential.correction}"
        about = f"{len(potential.elements)} elements, {potential.licence}"
        files = _files(name)
        table.add_row(name, f"{label}\n{about}", _size(files) if files else "no")
    for name, (about, usable) in plugins.about(plugins.MODELS, zoo.our_names()).items():
        table.add_row(name, about, "yes" if usable else "refused")
    output.print(table, soft_wrap=False)
    _list_properties()
    if not cards:
        output.print("No model of ours comes with this version.")
    output.print("The folder of any potential of matgl can be named as well.")


@app.command()
def recommend(
    data: Annotated[
        Path, typer.Option(help="CSV table: formula or structure (a file), value, if known sigma and unit")
    ],
    unit: Annotated[str | None, typer.Option(help="Of the values, where no column says it")] = None,
) -> None:
    """Which property model is the best to learn values of your own from? Tries all."""
    from surrogates.properties.own_data import read_own_data
    from surrogates.properties.recommending import recommend as try_all

    values = read_own_data(data, unit=unit)
    tried = try_all(values)
    table = plain_table("source", "reads", "by", f"left-out error, {values.unit}", "of the median's")
    for one in tried:
        if one.transferred is None:
            continue
        share = one.error / one.transferred.guess
        table.add_row(one.name, one.reads, one.transferred.strategy, f"{one.error:.4g}", f"{share:.0%}")
    output.print(table, soft_wrap=False)
    if len(tried) > 1 and tried[0].error > tried[1].error:
        output.print(f"{tried[0].name} stands first: with few values it is surer than the least error.")
    for one in tried:
        if one.why_not:
            output.print(f"{one.name}: {in_options(one.why_not)}")


@app.command()
def card(name: Name) -> None:
    """All that is known of a model."""
    from surrogates import zoo

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if _is_of_property(name):
        rows = _property_card(name)
    elif offered := plugins.find(plugins.MODELS, name, zoo.our_names()):
        rows = _offered_card(name, plugins.origin(offered))
    else:
        zoo.check_known(name)
        rows = _own_card(zoo.read_card(name)) if zoo.is_ours(name) else _published_card(name)
    for key, value in rows:
        table.add_row(key, value)
    output.print(table, soft_wrap=False)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One model; default: all on this machine")] = None,
) -> None:
    """Are the weights those that were published? Compares their hashes."""
    from surrogates import zoo
    from surrogates.potentials import catalogue as published

    if name:
        output.print(f"{name}: {_verified(name)}")
        return
    wrong = []
    from surrogates.properties import library

    own = (card.name for card in zoo.list_models())
    for one in (*own, *library.names(), *filter(_files, published.PUBLISHED)):
        try:
            output.print(f"{one}: {_verified(one)}")
        except InputError as error:
            output.print(f"{one}: {in_options(str(error))}")
            wrong.append(one)
    if wrong:
        raise InputError(f"Do not use {', '.join(wrong)}: install or fetch again.")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A published potential, as csp models list names it")],
) -> None:
    """Fetch a published potential, to be used by its name from then on."""
    from surrogates import zoo
    from surrogates.potentials import catalogue as published

    zoo.check_known(name)
    if zoo.is_ours(name):
        path = zoo.weights_file(name)
    elif name.lower() == "chgnet":
        (path,) = published.files(name)  # comes with its package
    else:
        path = published.download(name)[-1]
    output.print(f"{name} is here: {path.parent}")


def _files(name: str) -> list[Path]:
    """The files of a published potential; none if it is not on this machine."""
    from surrogates.potentials import catalogue as published

    try:
        return published.files(name)
    except MissingError:
        return []


def _verified(name: str) -> str:
    """What was compared; raises InputError for weights that are not what they should be."""
    from surrogates import zoo
    from surrogates.potentials import catalogue as published

    if _is_of_property(name):
        from surrogates.properties import library

        return f"sha256 {library.verify(name).sha256[:12]}… as in its card"
    if offered := plugins.find(plugins.MODELS, name, zoo.our_names()):
        zoo.load_model(name)
        return f"loads; it comes from {plugins.origin(offered)}, and no hash is published to compare it with"
    zoo.check_known(name)
    if zoo.is_ours(name):
        return f"sha256 {zoo.verify(name).sha256[:12]}… as in its card"
    found, expected = published.hashes(name)
    if expected is None:
        from surrogates.potentials.models import load_potential

        load_potential(name)
        return f"loads; no hash is published to compare its sha256 {found[:12]}… with"
    if found != expected:
        raise InputError(f"sha256 {found[:12]}… is not the published {expected[:12]}….")
    return f"sha256 {found[:12]}… as published"


def _list_properties() -> None:
    from surrogates.properties import library

    table = plain_table()
    table.add_column("model of a property", no_wrap=True)
    table.add_column("property; values, reads", overflow="fold")
    table.add_column("error", justify="right")
    for card in library.list_models():
        unit = "" if card.unit == "1" else f", {card.unit}"
        error = next((value for key, value in card.metrics.items() if key.startswith(ERRORS)), None)
        told = "" if error is None else f"{error:.3g}"
        table.add_row(card.name, f"{card.title}{unit}\n{card.n:,} values, {card.reads}", told)
    if table.row_count:
        output.print()
        output.print(table, soft_wrap=False)


def _is_of_property(name: str) -> bool:
    from surrogates.properties import library

    if name.endswith(".safetensors"):
        return Path(name).with_suffix(".json").is_file() and '"scale"' in read_text(
            Path(name).with_suffix(".json")
        )
    return name in library.names()


def _property_card(name: str) -> Iterator[tuple[str, str]]:
    from surrogates.properties import library

    card = library.read_card(name)
    yield "name", card.name
    yield "property", f"{card.title}, {card.unit}{', as its logarithm' if card.scale == 'log10' else ''}"
    yield (
        "reads",
        f"{card.reads}s" + (f", by {card.surrogate} {card.surrogate_sha256}" if card.surrogate else ""),
    )
    yield "values", f"{card.n:,}, from {card.span[0]:.4g} to {card.span[1]:.4g} {card.unit}"
    yield "elements", _symbols(frozenset(card.elements))
    yield "architecture", ", ".join(f"{key} {value}" for key, value in card.architecture.items())
    yield "recipe", ", ".join(f"{key} {value}" for key, value in card.recipe.items())
    yield "data", "\n".join(card.data)
    yield "split", card.split
    yield "parents", ", ".join(card.parents) or "none"
    for key, value in card.metrics.items():
        yield key, f"{value:g}"
    yield "licence", card.licence
    yield "code version", card.code_version
    yield "sha256", card.sha256


def _own_card(card: EnergyModelCard) -> Iterator[tuple[str, str]]:
    yield "name", card.name
    yield "property", f"{card.property}, {card.unit}"
    for kind in card.kinds:
        yield f"head {kind}", str(card.label(kind))
    yield "elements", _symbols(frozenset(card.elements))
    yield "architecture", ", ".join(f"{key} {value}" for key, value in card.architecture.items())
    yield "recipe", ", ".join(f"{key} {value}" for key, value in card.recipe.items())
    yield "data", "\n".join(card.data)
    yield "split", card.split
    yield "parents", ", ".join(card.parents) or "none"
    for key, value in card.metrics.items():
        yield key, f"{value:g}"
    yield "licence", card.licence
    yield "code version", card.code_version
    yield "sha256", card.sha256


def _published_card(name: str) -> Iterator[tuple[str, str]]:
    from surrogates.potentials import catalogue as published

    potential = published.PUBLISHED.get(name)
    yield "name", name
    if potential:
        yield "model", potential.reference
        yield "licence", potential.licence
    try:
        files = published.files(name)
    except MissingError:
        if potential is None:
            raise
        yield "label", f"{potential.functional}/{potential.correction}"
        yield "elements", _symbols(potential.elements)
        yield "here", f"no; csp models pull {name}"
        return
    from surrogates.potentials.models import load_potential

    model = load_potential(name)
    yield "label", str(model.label)
    yield "elements", _symbols(model.elements)
    yield "here", f"{files[-1].parent}, {_size(files)}"
    yield "sha256", published.hashes(name)[0]


def _offered_card(name: str, origin: str) -> Iterator[tuple[str, str]]:
    from surrogates import zoo

    model = zoo.load_model(name)
    yield "name", model.name
    yield "from", origin
    yield "label", str(model.label)
    yield "elements", _symbols(model.elements)


def _symbols(elements: frozenset[int]) -> str:
    from ase.data import chemical_symbols

    return f"{len(elements)}: " + " ".join(chemical_symbols[z] for z in sorted(elements))


def _size(files: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
