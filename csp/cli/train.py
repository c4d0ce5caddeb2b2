"""`csp train`: make the data that the models learn from, and train them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app"]

app = typer.Typer(help="Make training data and train the models.", no_args_is_help=True)


@app.command("export")
def export_surrogate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder step-… of a training of the surrogate")],
    name: Annotated[str, typer.Argument(help="Name of the model: xs, m …")],
    structures: Annotated[Path, typer.Option(help="Library file that it was trained on (Parquet)")],
    energies: Annotated[Path, typer.Option(help="Parquet table of formation energies and their split")],
    folder: Annotated[Path, typer.Option(help="Folder to write the model into")],
    virtual: Annotated[Path | None, typer.Option(help="Folder of its virtual crystals")] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of the compositions that its training left out")
    ] = None,
) -> None:
    """Make a model of the library from a checkpoint: weights, σ and a card with its errors."""
    from surrogates.exporting import ship

    left_out = set(exclude.read_text(encoding="utf-8").splitlines()) if exclude else set()
    card = ship(checkpoint, name, folder, structures, energies, virtual, left_out)
    for key, value in card.metrics.items():
        print(f"{key:<34} {value:g}")


@app.command()
def labels(
    structures: Annotated[Path, typer.Option(help="Library file of crystals (Parquet)")],
    energies: Annotated[Path, typer.Option(help="Parquet table of formation energies and their split")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; those there are kept")],
    shards: Annotated[int, typer.Option(help="How many, of about 800 crystals each")] = 40,
    first: Annotated[int, typer.Option(help="Number of the first shard")] = 0,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Whose compositions")] = "train",
    exclude: Annotated[
        Path | None, typer.Option(help="File of compositions to leave out, one a line (8:3 22:1 38:1)")
    ] = None,
    teacher: Annotated[str, typer.Option(help="Potential that labels them")] = "chgnet",
    anchored: Annotated[
        bool,
        typer.Option(
            help="Labels are the teacher's differences to each composition's DFT crystal, added to that"
            " crystal's energy; or, to compare with, the teacher's own energies"
        ),
    ] = True,
    walker: Annotated[
        str | None,
        typer.Option(help="Surrogate to be trained on: most crystals are those that it relaxes others to"),
    ] = None,
    max_atoms: Annotated[int, typer.Option(min=1, help="Atoms in a cell at most")] = 12,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """Virtual crystals for the surrogate, labelled by a universal potential and anchored to DFT."""
    from csp.device import resolve_device
    from csp.library.library import Library
    from csp.library.volume import VolumePrior
    from generators.random_symmetric.generator import RandomGenerator
    from surrogates.potentials.models import load_potential
    from surrogates.training.virtual_crystals import VirtualRecipe, label
    from surrogates.zoo import load_surrogate

    recipe = VirtualRecipe.on_policy if walker else VirtualRecipe
    label(
        structures,
        energies,
        out,
        split=split,
        shards=range(first, first + shards),
        exclude=set(exclude.read_text(encoding="utf-8").splitlines()) if exclude else set(),
        symmetric=RandomGenerator(Library.open(structures), VolumePrior.load()),
        teacher=load_potential(teacher, resolve_device(device)),
        recipe=recipe(anchored=anchored, max_atoms=max_atoms),
        walker=load_surrogate(walker, resolve_device(device)) if walker else None,
    )


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def surrogate(context: typer.Context) -> None:
    """The energy surrogate, on formation energies and labels; --help tells its options."""
    from surrogates.training.train import main

    main(context.args)


@app.command()
def metric(
    structures: Annotated[Path, typer.Option(help="Library file of crystals (Parquet)")],
    out: Annotated[Path, typer.Option(help="Folder of the training; one that is there is continued")],
    generator: Annotated[
        Literal["metric_learning", "template"], typer.Option(help="Which generator it is for")
    ] = "metric_learning",
    energies: Annotated[
        Path | None, typer.Option(help="Parquet table of formation energies: which polymorph is the answer")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of compositions to leave out, one a line (8:3 22:1 38:1)")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same course")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop after so many; go on later")] = float("inf"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """How alike compositions crystallise, learned from a library's structures: weights and their card."""
    from csp.device import resolve_device
    from generators.templates.training import ARCHITECTURES, Recipe, train_on_library

    card = train_on_library(
        generator,
        structures,
        energies,
        out,
        exclude=set(exclude.read_text(encoding="utf-8").splitlines()) if exclude else set(),
        recipe=Recipe(steps=steps, seed=seed, architecture=ARCHITECTURES[generator]),
        device=resolve_device(device),
        stop_after_minutes=minutes,
    )
    typer.echo(f"{out / card.name}.safetensors: {card.metrics}")


@app.command()
def transfer(
    model: Annotated[str, typer.Option("--from", help="Surrogate to begin with: its name or weights file")],
    data: Annotated[list[Path], typer.Option(help="Extended XYZ of labelled crystals; may be repeated")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new model; default: where --surrogate finds it by name")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the new model; default: the data's")] = None,
    strategy: Annotated[
        str, typer.Option(help="auto, shift, affine, bayesian, affine_model, frozen or full")
    ] = "auto",
    functional: Annotated[str | None, typer.Option(help="Of energies that do not name theirs: PBE …")] = None,
    code: Annotated[str | None, typer.Option(help="That made them, where they do not name it")] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Folder of the surrogate's virtual crystals, to keep learning from")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """Adapt a surrogate to DFT energies of your own."""
    from csp.device import resolve_device
    from surrogates.exporting import keep
    from surrogates.training.label_files import read_labels
    from surrogates.training.labelled import Labelled, read_shard
    from surrogates.transfer.adapt import adapt
    from surrogates.zoo import load_surrogate, user_folder

    place = resolve_device(device)
    labelled, label = read_labels(data, functional=functional, code=code)
    surrogate = load_surrogate(model, place)
    replayed = None
    if replay is not None:
        replayed = Labelled.cat([read_shard(path) for path in _shards(replay)])
    adapted = adapt(
        surrogate, labelled.crystals, labelled.energy, label, strategy=strategy, replay=replayed, seed=seed
    )
    name, folder = name or f"{surrogate.name}-{data[0].stem}", out or user_folder()
    told = [f"{len(labelled)} labels of {label} from {', '.join(path.name for path in data)}"]
    keep(adapted, name, folder, parent=surrogate.label.checkpoint, data=told)
    typer.echo(f"{adapted}.")
    typer.echo(f"Use it with --surrogate {name if out is None else folder / f'{name}.safetensors'}")


def _shards(folder: Path) -> list[Path]:
    from csp.errors import MissingError

    found = sorted(folder.glob("train-*.npz"))
    if not found:
        raise MissingError(f"There are no shards train-*.npz in {folder}.")
    return found


@app.command("space-group-data")
def space_group_data(
    structures: Annotated[Path, typer.Option(help="Library file of crystals (Parquet)")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; those there are kept")],
    shards: Annotated[int | None, typer.Option(help="How many, of 4,096 crystals each; default all")] = None,
    first: Annotated[int, typer.Option(help="Number of the first shard")] = 0,
) -> None:
    """Describe a library's crystals by space group, Wyckoff positions and free parameters, for training."""
    from generators.space_group.dataset import build_table

    total = build_table(
        structures, out, shards=range(first, first + shards) if shards else None, report=typer.echo
    )
    typer.echo(f"{out}: {dict(total)}")


@app.command("space-group-expert")
def space_group_expert(
    structures: Annotated[Path, typer.Option(help="Library file of crystals (Parquet)")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; those there are kept")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights file of the space-group model; default: what ships")
    ] = None,
    model: Annotated[str, typer.Option(help="Energy model that screens and relaxes")] = "xs",
    compositions: Annotated[int, typer.Option(min=1, help="How many, of the training folds")] = 1000,
    drawn: Annotated[int, typer.Option(min=1, help="Candidates for each")] = 100,
    window: Annotated[float, typer.Option(min=0.0, help="eV/atom over the lowest, of what is kept")] = 0.05,
    exclude: Annotated[
        Path | None, typer.Option(help="File of compositions to leave out, one a line (8:3 22:1 38:1)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same crystals")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """Low crystals that the space-group model drew itself, for it to learn from beside the library's."""
    from csp.device import resolve_device
    from csp.library.library import Library
    from csp.library.volume import VolumePrior
    from csp.training.cards import load_weights, shipped
    from generators.space_group.expert_iteration import Expert, build
    from generators.space_group.generator import SpaceGroupGenerator
    from surrogates.zoo import load_model

    library, weights = Library.open(structures), weights or shipped("space_group")
    total = build(
        library,
        SpaceGroupGenerator(library, VolumePrior.load(), weights),
        load_model(model, resolve_device(device)),
        out,
        compositions=compositions,
        exclude=_lines(exclude),
        expert=Expert(drawn=drawn, window=window, seed=seed),
        origin={"drawn by": load_weights(weights)[1].sha256},
        report=typer.echo,
    )
    typer.echo(f"{out}: {dict(total)}")


@app.command("space-group")
def space_group(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder that `csp train space-group-data`, or space-group-expert, made; may be repeated"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the training; one that is there is continued")],
    start_from: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors) of a model to begin with")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of compositions to leave out, one a line (8:3 22:1 38:1)")
    ] = None,
    exclude_ids: Annotated[Path | None, typer.Option(help="File of material ids to leave out")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all")] = 12_000,
    tokens: Annotated[int, typer.Option(min=64, help="Tokens of a batch; about 20 make a crystal")] = 8192,
    width: Annotated[int, typer.Option(help="Of the network")] = 160,
    layers: Annotated[int, typer.Option(help="Of the network")] = 6,
    heads: Annotated[int, typer.Option(help="Of the network's attention")] = 5,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="In training")] = 0.1,
    lr: Annotated[float, typer.Option(help="Peak learning rate")] = 1.5e-3,
    max_atoms: Annotated[int, typer.Option(help="Leave larger primitive cells out")] = 64,
    max_orbits: Annotated[int, typer.Option(help="Leave crystals with more orbits out")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same course")] = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; go on later")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """The space-group-aware generator's model. Writes space_group.safetensors and its card."""
    import math

    import torch

    from csp.device import resolve_device
    from generators.space_group.model import Architecture
    from generators.space_group.training import Recipe, train_on_tables

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    card = train_on_tables(
        data,
        out,
        exclude=_lines(exclude),
        exclude_ids=_lines(exclude_ids),
        recipe=Recipe(
            steps=steps,
            tokens=tokens,
            lr=lr,
            dropout=dropout,
            max_atoms=max_atoms,
            max_orbits=max_orbits,
            seed=seed,
            architecture=Architecture(width=width, layers=layers, heads=heads),
        ),
        device=resolve_device(device),
        start_from=start_from,
        stop_after_minutes=minutes or math.inf,
    )
    typer.echo(f"{out}/{card.name}.safetensors: {card.metrics}")


def _lines(path: Path | None) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path else set()
