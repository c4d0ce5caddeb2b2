"""`csp train`: make the data that the models learn from, and train them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from csp.cli.options import Device
from csp.cli.train_options import (
    Energies,
    Exclude,
    LearningRate,
    Minutes,
    Seed,
    Shards,
    Steps,
    Structures,
    Threads,
    Training,
    json_object,
    lines,
    machine,
    time_limit,
)
from csp.cli.train_properties import properties, property_

__all__ = ["app"]

app = typer.Typer(help="Make training data and train the models.", no_args_is_help=True, add_completion=False)

# -- data -------------------------------------------------------------------------------------------


@app.command()
def labels(
    structures: Structures,
    energies: Energies,
    out: Shards,
    shards: Annotated[int, typer.Option(min=1, help="How many, of about 800 crystals each")] = 40,
    first: Annotated[int, typer.Option(min=0, help="Number of the first shard")] = 0,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Whose compositions")] = "train",
    exclude: Exclude = None,
    teacher: Annotated[str, typer.Option(help="Potential that labels them")] = "nequix-oam-1",
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
    device: Device = "auto",
) -> None:
    """Virtual crystals for the surrogate, labelled by a universal potential and anchored to DFT."""
    from csp.device import resolve_device
    from csp.library.library import Library
    from csp.library.volume import VolumePrior
    from generators.random_symmetric.generator import RandomGenerator
    from surrogates.training.virtual_crystals import VirtualRecipe, label
    from surrogates.zoo import load_model, load_surrogate

    place = resolve_device(device)
    recipe = VirtualRecipe.on_policy if walker else VirtualRecipe
    label(
        structures,
        energies,
        out,
        split=split,
        shards=range(first, first + shards),
        exclude=lines(exclude),
        symmetric=RandomGenerator(Library.open(structures), VolumePrior.load()),
        teacher=load_model(teacher, place),
        recipe=recipe(anchored=anchored, max_atoms=max_atoms),
        walker=load_surrogate(walker, place) if walker else None,
        log=typer.echo,
    )


@app.command("space-group-data")
def space_group_data(
    structures: Structures,
    out: Shards,
    shards: Annotated[
        int | None, typer.Option(min=1, help="How many, of 4,096 crystals each; default all")
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="Number of the first shard")] = 0,
) -> None:
    """Describe a library's crystals by space group, Wyckoff positions and free parameters, for training."""
    from generators.space_group.dataset import build_table

    total = build_table(
        structures, out, shards=range(first, first + shards) if shards else None, log=typer.echo
    )
    typer.echo(f"{out}: {dict(total)}")


@app.command("space-group-expert")
def space_group_expert(
    structures: Structures,
    out: Shards,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file of the space-group model; default: what ships")
    ] = None,
    model: Annotated[str, typer.Option(help="Energy model that screens and relaxes")] = "xs",
    compositions: Annotated[int, typer.Option(min=1, help="How many, of the training folds")] = 1000,
    drawn: Annotated[int, typer.Option(min=1, help="Candidates for each")] = 100,
    window: Annotated[float, typer.Option(min=0.0, help="eV/atom over the lowest, of what is kept")] = 0.05,
    exclude: Exclude = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same crystals")] = 0,
    device: Device = "auto",
) -> None:
    """Low crystals that the space-group model drew itself, for it to learn from beside the library's."""
    from csp.device import resolve_device
    from csp.library.library import Library
    from csp.library.volume import VolumePrior
    from csp.training.cards import load_weights, shipped
    from generators.space_group.expert_iteration import Expert, build_expert_table
    from generators.space_group.generator import SpaceGroupGenerator
    from surrogates.zoo import load_model

    library, weights = Library.open(structures), weights or shipped("space_group")
    total = build_expert_table(
        library,
        SpaceGroupGenerator(library, VolumePrior.load(), weights),
        load_model(model, resolve_device(device)),
        out,
        compositions=compositions,
        exclude=lines(exclude),
        expert=Expert(drawn=drawn, window=window, seed=seed),
        origin={"drawn by": load_weights(weights)[1].sha256},
        log=typer.echo,
    )
    typer.echo(f"{out}: {dict(total)}")


# -- trainings --------------------------------------------------------------------------------------


@app.command()
def surrogate(
    structures: Structures,
    energies: Energies,
    out: Training,
    virtual: Annotated[
        Path | None, typer.Option(help="Folder of labelled shards that `csp train labels` made")
    ] = None,
    exclude: Exclude = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder step-… or weights file (.safetensors) to begin with"),
    ] = None,
    virtual_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the steps, on virtual crystals")
    ] = 0.5,
    max_atoms: Annotated[
        int, typer.Option(min=1, show_default="none", help="Leave larger formation-energy cells out")
    ] = 10**9,
    size: Annotated[str, typer.Option(help="Of the network: xs or m")] = "xs",
    steps: Steps = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Crystals in a step")] = 32,
    lr: LearningRate = 1.5e-3,
    warmup: Annotated[int, typer.Option(min=0, help="Steps until the learning rate is at its peak")] = 300,
    decay: Annotated[
        float, typer.Option(min=0, max=1, help="Last part of the steps, in which it falls to zero")
    ] = 0.4,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of AdamW")] = 0.01,
    clip: Annotated[float, typer.Option(help="Largest norm of a gradient")] = 1.0,
    ema: Annotated[float, typer.Option(min=0, max=1, help="Decay of the averaged weights, per step")] = 0.999,
    force: Annotated[
        float, typer.Option(min=0, help="Weight of a slope's error (eV/Å) against an energy's (eV/atom)")
    ] = 0.2,
    small: Annotated[int, typer.Option(min=1, help="Atoms in a cell at most, in the first part …")] = 20,
    small_until: Annotated[
        float, typer.Option(min=0, max=1, help="… which ends at this fraction of the steps")
    ] = 0.5,
    seed: Seed = 0,
    changes: Annotated[
        str, typer.Option(help='JSON of changes to the architecture, for ablations: {"heads": 4}')
    ] = "{}",
    minutes: Minutes = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """The energy surrogate, on formation energies and labels. Leaves checkpoints for `csp train export`."""
    from csp.training.loop import print_row
    from surrogates.training.train import SurrogateData, SurrogateRecipe, plot, train_surrogate

    place = machine(device, threads)
    train_surrogate(
        SurrogateRecipe(
            size=size,
            steps=steps,
            batch=batch,
            lr=lr,
            warmup=warmup,
            decay=decay,
            weight_decay=weight_decay,
            clip=clip,
            ema=ema,
            force=force,
            small=small,
            small_until=small_until,
            seed=seed,
            changes=json_object(changes, "--changes"),
        ),
        SurrogateData(
            structures=structures,
            energies=energies,
            virtual=virtual,
            exclude=frozenset(lines(exclude)),
            virtual_share=virtual_share,
            max_atoms=max_atoms,
        ),
        out,
        device=place,
        start_from=start_from,
        stop_after_minutes=time_limit(minutes),
        log=print_row,
        notes=typer.echo,
    )
    try:
        plot(out / "log.jsonl", out / "log.png")
    except ModuleNotFoundError as error:
        typer.echo(f"No plot: {error}.", err=True)


@app.command()
def metric(
    structures: Structures,
    out: Training,
    generator: Annotated[
        Literal["metric_learning", "template"], typer.Option(help="Which generator it is for")
    ] = "metric_learning",
    energies: Annotated[
        Path | None,
        typer.Option(help="Parquet table of formation energies: which polymorph is the ground state"),
    ] = None,
    exclude: Exclude = None,
    steps: Steps = 1000,
    seed: Seed = 0,
    minutes: Minutes = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """How alike compositions crystallise, learned from a library's structures: weights and their card."""
    from csp.training.loop import print_row
    from generators.templates.training import ARCHITECTURES, MetricRecipe, train_on_library

    place = machine(device, threads)
    card = train_on_library(
        generator,
        structures,
        energies,
        out,
        exclude=lines(exclude),
        recipe=MetricRecipe(steps=steps, seed=seed, architecture=ARCHITECTURES[generator]),
        device=place,
        stop_after_minutes=time_limit(minutes),
        log=print_row,
    )
    typer.echo(f"{out / card.name}.safetensors: {card.metrics}")


@app.command("space-group")
def space_group(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder that `csp train space-group-data`, or space-group-expert, made; may be repeated"
        ),
    ],
    out: Training,
    start_from: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors) of a model to begin with")
    ] = None,
    exclude: Exclude = None,
    exclude_ids: Annotated[Path | None, typer.Option(help="File of material ids to leave out")] = None,
    stability: Annotated[
        Path | None,
        typer.Option(
            help="Parquet table of distances from the convex hull (material_id, e_above_hull, "
            "e_above_hull_unique): a crystal counts by exp(-dE / 50 meV)"
        ),
    ] = None,
    steps: Steps = 12_000,
    tokens: Annotated[int, typer.Option(min=64, help="Tokens of a batch; about 20 make a crystal")] = 8192,
    width: Annotated[int, typer.Option(min=1, help="Of the network")] = 160,
    layers: Annotated[int, typer.Option(min=1, help="Of the network")] = 6,
    heads: Annotated[int, typer.Option(min=1, help="Of the network's attention")] = 5,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="In training")] = 0.1,
    lr: LearningRate = 1.5e-3,
    max_atoms: Annotated[int, typer.Option(min=1, help="Leave larger primitive cells out")] = 64,
    max_orbits: Annotated[int, typer.Option(min=1, help="Leave crystals with more orbits out")] = 32,
    seed: Seed = 0,
    minutes: Minutes = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """The space-group-aware generator's model. Writes space_group.safetensors and its card."""
    from csp.library.energies import read_distances
    from csp.training.loop import print_row
    from generators.space_group.model import SpaceGroupArchitecture
    from generators.space_group.training import SpaceGroupRecipe, train_on_tables

    place = machine(device, threads)
    card = train_on_tables(
        data,
        out,
        exclude=lines(exclude),
        exclude_ids=lines(exclude_ids),
        recipe=SpaceGroupRecipe(
            steps=steps,
            tokens=tokens,
            lr=lr,
            dropout=dropout,
            max_atoms=max_atoms,
            max_orbits=max_orbits,
            seed=seed,
            architecture=SpaceGroupArchitecture(width=width, layers=layers, heads=heads),
        ),
        device=place,
        above_hull=read_distances(stability) if stability else None,
        start_from=start_from,
        stop_after_minutes=time_limit(minutes),
        log=print_row,
    )
    typer.echo(f"{out / card.name}.safetensors: {card.metrics}")


# -- from a training to a model ---------------------------------------------------------------------


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder step-… of a training of the surrogate")],
    name: Annotated[str, typer.Argument(help="Name of the model: xs, m …")],
    structures: Structures,
    energies: Energies,
    folder: Annotated[Path, typer.Option(help="Folder to write the model into")],
    virtual: Annotated[Path | None, typer.Option(help="Folder of its virtual crystals")] = None,
    exclude: Exclude = None,
) -> None:
    """Make a model of the library from a checkpoint: weights, σ and a card with its errors."""
    from surrogates.exporting import export_checkpoint

    card = export_checkpoint(checkpoint, name, folder, structures, energies, virtual, lines(exclude))
    for key, value in card.metrics.items():
        typer.echo(f"{key:<34} {value:g}")


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
    device: Device = "auto",
) -> None:
    """Adapt a surrogate to DFT energies of your own."""
    from csp.device import resolve_device
    from surrogates.exporting import export_adapted
    from surrogates.training.label_files import read_labels
    from surrogates.training.labelled import read_shards
    from surrogates.transfer.adapt import adapt
    from surrogates.zoo import load_surrogate, user_folder

    labelled, label = read_labels(data, functional=functional, code=code)
    base = load_surrogate(model, resolve_device(device))
    adapted = adapt(
        base,
        labelled.crystals,
        labelled.energy,
        label,
        strategy=strategy,
        replay=read_shards(replay, "train") if replay else None,
        seed=seed,
    )
    name, folder = name or f"{base.name}-{data[0].stem}", out or user_folder()
    notes = [f"{len(labelled)} labels of {label} from {', '.join(path.name for path in data)}"]
    export_adapted(adapted, name, folder, parent=base.label.checkpoint, data=notes)
    typer.echo(f"{adapted}.")
    typer.echo(f"Use it with --surrogate {name if out is None else folder / f'{name}.safetensors'}")


app.command("property")(property_)
app.command()(properties)
