"""`csp benchmark …`: recovery of known crystals, generators, surrogate, throughput, comparison of two runs.

All share --out, --limit, --seed and --device and write one flat `summary.json` into the out folder.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.calibration.cli import calibration, differences
from benchmarks.generation.cli import generators, pools
from benchmarks.hulls.cli import hulls
from benchmarks.known.cli import known
from benchmarks.library.cli import library as library_command
from benchmarks.options import Known, KnownEnergies, Prototyped, say_some
from csp.cli.console import console, note, output
from csp.cli.options import Device, Limit, Out, Seed
from csp.cli.progress import status
from csp.errors import InputError

__all__ = ["app"]

app = typer.Typer(help="How well and how fast the engine works.", no_args_is_help=True, add_completion=False)
app.command("last-order", hidden=True)(calibration)  # its name until 0.2
app.command()(calibration)
app.command()(differences)
app.command()(hulls)
app.command()(known)
app.command("library")(library_command)


@app.command()
def recovery(
    out: Out,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Folder of CIFs of known crystals, or a CSV table of their ids in the Materials Project; "
            "default: the 35 of the paper by their ids"
        ),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of known crystals; auto: yours (csp library use); none: the AFLOW prototypes"
        ),
    ] = None,
    generators: Annotated[
        str | None, typer.Option(help="Which generators propose, a,b; default: all")
    ] = None,
    budget: Annotated[str, typer.Option(help="small, standard or full: work spent on a target")] = "standard",
    surrogate: Annotated[
        str | None, typer.Option(help="Model that screens and relaxes first; none: the relaxer does all")
    ] = None,
    relaxer: Annotated[
        str, typer.Option(help="Potential that refines and ranks; auto: the best at hand; none: no other")
    ] = "auto",
    only: Annotated[str | None, typer.Option(help="Only these targets, by file name: GaAs,ZnO")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER, the out folder of another such run, whose ranks stand beside; repeatable"
        ),
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the benchmark in the out folder")
    ] = False,
) -> None:
    """How many known crystals are found from the formula alone?"""
    from benchmarks.recovery.benchmark import Recovery, RecoverySettings

    given = {"targets": targets, "generators": generators, "surrogate": surrogate}
    settings = RecoverySettings.read(
        library=library,
        budget=budget,
        relaxer=relaxer,
        beside=_named(beside or []),
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    benchmark = Recovery.begin(settings, out, device=device, resume=resume)
    if settings.library_note:
        note(settings.library_note)
    for problem in benchmark.truths.problems:
        note(str(problem), word="left out:")
    chosen = benchmark.truths.choose(only.split(",") if only else None, limit)
    started, found = time.monotonic(), 0
    for k, truth in enumerate(chosen, start=1):
        outcome = benchmark.run(truth, status(truth.name))
        summary = benchmark.write()
        found += outcome.found
        passed = time.monotonic() - started
        console.print(f"{k:3d}/{len(chosen)}  {outcome.line()}   found {found} of {k} in {passed:.0f} s")
    say_some(
        summary, ("n", "found_at_1", "found_at_5", "found_at_10", "found_at_20", "proposed.any", "seconds")
    )
    console.print(f"{out}/table.md, recovery.png, recovery.json and summary.json are written.")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="Out folder of a recovery benchmark, or its recovery.json")],
    after: Annotated[Path, typer.Argument(help="The one to compare with it")],
    out: Annotated[Path | None, typer.Option(help="Folder to write summary.json into")] = None,
) -> None:
    """Which targets did the second of two recovery benchmarks win and lose, and why?"""
    from benchmarks.recovery.compare import compare as compared
    from csp.files import write_json

    comparison = compared(before, after)
    for title, changes in (("won", comparison.won), ("lost", comparison.lost)):
        for change in changes:
            output.print(f"{title:<5} {change}")
    if comparison.only_in_one:
        output.print(f"in one of them only: {', '.join(comparison.only_in_one)}")
    counts = comparison.summary().items()
    output.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counts))
    if out is not None:
        write_json(out / "summary.json", comparison.summary())


@app.command()
def throughput(
    out: Out,
    library: Prototyped = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Energy model, may be repeated; default: xs and chgnet"),
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Proposals, energies, relaxation steps and de-duplication a second, against named references."""
    from benchmarks.machine import machine
    from benchmarks.throughput.benchmark import deduplication, energies, generation
    from csp.device import resolve_device
    from csp.files import write_json
    from csp.library.library import Library

    place, known = resolve_device(device), Library.open(library)
    summary: dict[str, Any] = {"seed": seed, "library": known.name, **machine(place)}
    measured = [
        generation(known, limit, seed),
        *(energies(name, place, limit, seed) for name in model or ["xs", "chgnet"]),
        deduplication(library, place, limit, seed),
    ]
    for rates in measured:
        for name, value in rates:
            summary[name] = float(f"{value:.4g}")
            console.print(f"{name:<60} {summary[name]:>10,}")
            write_json(out / "summary.json", summary)


app.command()(generators)


@app.command()
def skeletons(
    out: Out,
    targets: Annotated[
        Path, typer.Option(help="Folder of CIFs of known crystals, or a CSV file with a column material_id")
    ],
    library: Annotated[
        Path | None, typer.Option(help="Parquet file of known crystals; none: the prototypes that ship")
    ] = None,
    crystals: Annotated[
        Path | None, typer.Option(help="Library that has the crystals of a CSV file; none: --library")
    ] = None,
    among: Annotated[int, typer.Option(min=1, help="Proposals that are looked at")] = 500,
    max_atoms: Annotated[int, typer.Option(min=1, help="Largest cell of a target")] = 100,
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="Crystals that a training of ours has used, too")
    ] = False,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Are known crystals among the template proposals, and how many more by skeletons of other ratios?"""
    from benchmarks.deep.targets import in_folder, of_ids
    from benchmarks.generation.skeletons import measure
    from csp.library.library import Library
    from csp.training.splits import hashed

    opened = Library.open(library)
    if targets.is_dir():
        truths = sorted(in_folder(targets, max_atoms), key=lambda truth: hashed(f"{seed} {truth.name}"))
    else:
        source = Library.open(crystals) if crystals else opened
        truths = of_ids(targets, source, max_atoms, seed, all_folds=all_folds)
    found = measure(truths[:limit], opened, out, among=among, say=console.print)
    say_some(found, ("found_of_ratio", "found_decorated", "n"))


@app.command()
def heldout(
    out: Out,
    library: Known,
    energies: KnownEnergies,
    limit: Annotated[int, typer.Option(min=1, help="So many compositions")] = 300,
    max_atoms: Annotated[int, typer.Option(min=1, help="Largest cell of an answer")] = 20,
    entries: Annotated[
        int, typer.Option(min=1, help="Only compositions of which the library has so many crystals")
    ] = 2,
    within: Annotated[
        float | None, typer.Option(min=0, help="eV/atom above the hull that answers may be")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write answers of compositions that no generator has learned from as CIFs: targets for recovery."""
    from benchmarks.targets import write_held_out

    n = write_held_out(library, energies, out, limit, max_atoms, entries, seed, within)
    console.print(f"{n} CIFs are in {out}.")


@app.command()
def alike(
    out: Out,
    library: Known,
    targets: Annotated[Path, typer.Option(help="Folder of CIFs of known crystals")],
) -> None:
    """Name the library's crystals of a target's structure, for a training's --exclude-ids."""
    from benchmarks.targets import write_alike

    found = write_alike(library, targets, out, console.print)
    console.print(f"{found['entries']} names are in {out}/ids.txt.")


app.command()(pools)


@app.command()
def pairs(
    out: Out,
    library: Known,
    energies: KnownEnergies,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of a metric; default: the one that ships")
    ] = None,
    draw: Annotated[
        int | None, typer.Option(min=4, help="Draw and judge so many pairs instead of the committed ones")
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Do two compositions of one ratio crystallise alike? Our metric against CSPML's recipe."""
    from benchmarks.pairs.benchmark import measure
    from csp.device import resolve_device
    from csp.library.energies import read_energies
    from csp.library.library import Library
    from csp.training.cards import shipped

    found = measure(
        Library.open(library),
        read_energies(energies),
        out,
        weights=weights or shipped("metric_learning"),
        draw=draw,
        limit=limit,
        seed=seed,
        device=resolve_device(device),
        say=console.print,
    )
    say_some(found, tuple(name for name in found if name not in ("seed", "library")))


@app.command()
def xrd(
    out: Out,
    library: Known,
    energies: KnownEnergies,
    scans: Annotated[
        Path | None, typer.Option(help="Folder of real scans named by their phases: A_0p40-B_0p60.xrdml")
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(help="Parquet file of more known crystals, for the scans' phases; repeatable"),
    ] = None,
    entries: Annotated[
        int, typer.Option(min=1, help="Only compositions of which the library has so many crystals")
    ] = 1,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Does a powder pattern, simulated and spoilt or real, tell the right crystal among others?"""
    from benchmarks.xrd.benchmark import measure

    found = measure(
        library,
        energies,
        out,
        scans=scans,
        known=known or [],
        entries=entries,
        limit=limit,
        seed=seed,
        say=console.print,
    )
    for name, value in found.items():
        console.print(f"{name:32} {value}")


@app.command()
def surrogate(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    energies: Annotated[Path, typer.Option(help="Parquet table of their formation energies and splits")],
    models: Annotated[
        str | None, typer.Option(help="Names, weights files or checkpoints, a,b; default: all of ours")
    ] = None,
    baseline_relaxed: Annotated[
        Path | None, typer.Option(help="Weights or checkpoint of a training without virtual crystals")
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="Universal potential that they are compared with")
    ] = "nequix-oam-1",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Does the surrogate order and relax virtual crystals as a universal potential does, and how fast?"""
    from benchmarks.surrogate.benchmark import SurrogateBenchmark

    benchmark = SurrogateBenchmark.begin(
        structures,
        energies,
        out,
        names=models.split(",") if models else None,
        teacher=teacher,
        baseline=baseline_relaxed,
        limit=limit,
        seed=seed,
        device=device,
    )
    benchmark.run(console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md, surrogate.png, surrogate.json and summary.json are written.")


@app.command()
def dft(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    formulas: Annotated[str, typer.Option(help="Compositions, a,b")] = "Si,GaAs,MgO",
    model: Annotated[str, typer.Option(help="Surrogate to adapt: its name or weights file")] = "xs",
    potential: Annotated[
        list[str] | None, typer.Option(help="Potential to judge beside it, by name or folder; repeatable")
    ] = None,
    labeller: Annotated[str, typer.Option(help="gpaw, vasp, espresso or a potential")] = "gpaw",
    labels: Annotated[int, typer.Option(min=2, help="To learn from, of each formula")] = 20,
    test: Annotated[int, typer.Option(min=2, help="More labels, to judge by")] = 60,
    max_atoms: Annotated[int, typer.Option(min=1, help="In a cell")] = 4,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """What do a few DFT energies of a composition's own virtual crystals buy?"""
    from benchmarks.transfer.dft import DftBenchmark

    benchmark = DftBenchmark.begin(
        structures,
        out,
        model=model,
        potentials=potential or [],
        labeller=labeller,
        labels=labels,
        test=test,
        max_atoms=max_atoms,
        seed=seed,
        device=device,
    )
    benchmark.run(formulas.split(","), console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")


@app.command()
def ablations(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    energies: KnownEnergies,
    virtual: Annotated[Path, typer.Option(help="Folder of virtual crystals (csp train labels)")],
    teacher_energies: Annotated[
        Path, typer.Option(help="Folder of the same, labelled by the teacher alone (--no-anchored)")
    ],
    pools: Annotated[Path, typer.Option(help="Folder pools of csp benchmark surrogate; filled if need be")],
    variants: Annotated[str | None, typer.Option(help="Only these, a,b; default: all")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each network")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each variant")] = 3,
    limit: Limit = None,
    device: Device = "auto",
) -> None:
    """What attention, its heads, three-body terms and the labels are worth to the surrogate."""
    from benchmarks.surrogate.ablations import Ablations

    benchmark = Ablations.begin(
        structures,
        energies,
        {"anchored": virtual, "teacher": teacher_energies},
        out,
        pools=pools,
        steps=steps,
        seeds=seeds,
        limit=limit,
        variants=variants.split(",") if variants else None,
        device=device,
    )
    benchmark.run(console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")


@app.command()
def transfer(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    source: Annotated[str, typer.Option(help="Weights or checkpoint of a training without virtual crystals")],
    teacher: Annotated[
        str, typer.Option(help="Potential that labels: a matgl model's name or folder")
    ] = "TensorNet-PES-MatPES-PBE-2025.2",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the labels")] = 5,
    tuned: Annotated[
        int, typer.Option(min=0, help="Of so many compositions all weights are tuned too, for two draws")
    ] = 3,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """What do a few labels of a composition's own virtual crystals buy, by each way to learn from them?"""
    from benchmarks.transfer.benchmark import TransferBenchmark

    benchmark = TransferBenchmark.begin(
        structures, source, teacher, out, limit=limit, seeds=seeds, tuned=tuned, seed=seed, device=device
    )
    benchmark.run(console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md, transfer.png, transfer.json and summary.json are written.")


def _named(folders: list[str]) -> tuple[tuple[str, Path], ...]:
    """NAME=FOLDER; raises InputError for anything else."""
    named = [text.partition("=")[::2] for text in folders]
    if not all(map(all, named)):
        raise InputError("write a name and a folder, for example random=out/random.", setting="beside")
    return tuple((name, Path(folder)) for name, folder in named)
