"""`csp train property` and `csp train properties`: models of what crystals are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.train_options import Exclude, Seed, Structures, lines

__all__ = ["properties", "property_"]


def property_(
    data: Annotated[
        Path, typer.Option(help="CSV table: formula or structure (a file), value, if known sigma and unit")
    ],
    name: Annotated[str, typer.Option("--property", help="Name of the property, and of the model")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Model to learn from, see csp models list; together: all of crystals as one; auto: the "
            "one that csp models recommend has first",
        ),
    ] = "auto",
    unit: Annotated[str | None, typer.Option(help="Of the values, where no column says it")] = None,
    strategy: Annotated[str, typer.Option(help="auto, kernel, bayesian, affine_model or full")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new model; default: where it is found by name")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model")] = 0,
) -> None:
    """Learn a property from few values of your own, from 10 on."""
    from surrogates.properties.library import user_folder
    from surrogates.properties.own_data import read_own_data
    from surrogates.properties.own_models import check_name, find_source, train_own

    check_name(name)
    values = read_own_data(data, unit=unit)
    for sentence in values.notes:
        typer.echo(sentence)
    found = train_own(
        values, name, find_source(source, values), out or user_folder(), strategy=strategy, seed=seed
    )
    learned, u = found.transferred, "" if values.unit == "1" else f" {values.unit}"
    tried = ", ".join(f"{one} {error:.4g}" for one, error in learned.errors.items())
    typer.echo(f"From {found.source}, {found.card.reads}s, by {learned.strategy} on {len(values)} values.")
    typer.echo(
        f"Mean error on values left out by composition: {tried}{u}; of the median: {learned.guess:.4g}{u}."
    )
    for n, error in found.curve.items():
        typer.echo(f"  from {n:>4} values: {error:.4g}{u}")
    if min(learned.errors.values()) > 0.9 * learned.guess:
        typer.echo("It is hardly better than the median of all: more values, or others, are needed.")
    where = name if out is None else out / f"{name}.safetensors"
    typer.echo(f"Use it: csp properties FILES --properties {where}")


def properties(
    structures: Structures,
    tables: Annotated[
        list[Path], typer.Option(help="Parquet table of published properties; may be repeated")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the models; those there are kept")],
    cache: Annotated[Path, typer.Option(help="Folder where the crystals' features are kept")],
    model: Annotated[str, typer.Option("--from", help="Surrogate whose features they read")] = "xs",
    limit: Annotated[
        int | None, typer.Option(min=1000, help="Crystals of each property at most; default all")
    ] = None,
    max_atoms: Annotated[int, typer.Option(min=1, help="Leave larger cells out")] = 60,
    exclude: Exclude = None,
    seed: Seed = 0,
) -> None:
    """The models of all properties that come with the engine, on published values."""
    import torch

    from surrogates.properties.fitting import PropertyRecipe
    from surrogates.properties.tables import read_values
    from surrogates.properties.training import train_all
    from surrogates.zoo import load_surrogate

    torch.set_flush_denormal(True)
    surrogate = load_surrogate(model)
    values = read_values(
        structures,
        tables,
        surrogate,
        cache,
        limit=limit,
        max_atoms=max_atoms,
        exclude=frozenset(lines(exclude)),
        log=typer.echo,
    )
    train_all(values, out, surrogate, recipe=PropertyRecipe(seed=seed), log=typer.echo)
