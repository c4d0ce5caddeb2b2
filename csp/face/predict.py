"""Searches for work in Python."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from csp.cli.progress import hear_since
from csp.cli.progress import progress as progress_shown
from csp.engine import Given
from csp.engine import predict as search
from csp.errors import InputError
from csp.face.keywords import check_keyword
from csp.face.models import as_energy_model, the_model_itself
from csp.generating import GENERATORS
from csp.library.library import Library
from csp.protocols import EnergyModel, Generator
from csp.search.prediction import Prediction
from csp.settings import SearchSettings
from surrogates.zoo import load_model, our_names

if TYPE_CHECKING:
    from csp.search.under_pressure import UnderPressure

__all__ = ["predict"]

Progress = Callable[[str, int, int], None]
NO_MODEL = "none"


@overload
def predict(
    formula: str,
    out: str | Path | None = None,
    *,
    pressure: float = 0.0,
    library: str | Path | Library | None = None,
    generators: str | Iterable[str | Generator] | None = None,
    surrogate: Any = None,
    relaxer: Any = None,
    device: str = "auto",
    resume: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> Prediction: ...


@overload
def predict(
    formula: str,
    out: str | Path | None = None,
    *,
    pressure: Sequence[float],
    library: str | Path | Library | None = None,
    generators: str | Iterable[str | Generator] | None = None,
    surrogate: Any = None,
    relaxer: Any = None,
    device: str = "auto",
    resume: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> UnderPressure: ...


def predict(
    formula: str,
    out: str | Path | None = None,
    *,
    pressure: float | Sequence[float] = 0.0,
    library: str | Path | Library | None = None,
    generators: str | Iterable[str | Generator] | None = None,
    surrogate: Any = None,
    relaxer: Any = None,
    device: str = "auto",
    resume: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> Prediction | UnderPressure:
    """Predict the crystals of a chemical formula, ranked, the best first.

    Args:
        formula: For example "SrTiO3" or "Ba(FeAs)2".
        out: Folder of the results, which a search that was interrupted goes on from; none: nothing is left
            on the disk.
        pressure: GPa. Several, [0, 25, 100]: a prediction at each, all crystals relaxed at all, and where
            one gives way to another, a `csp.search.under_pressure.UnderPressure`.
        library: Known crystals: a Parquet file or a `csp.Library`; none: your own (`csp library use`), or
            else what the Materials Project has for the formula; "none" in quotes: the AFLOW prototypes.
        generators: Names, or objects that keep `csp.protocols.Generator`.
        surrogate: What screens and relaxes first: a name, a path, or an object as `csp.load_model` takes it;
            "none": the relaxer does all.
        relaxer: What refines and ranks, likewise; "none": the surrogate does all.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N"; objects have their own.
        resume: Go on with the search in `out`; where none is, a new one begins.
        progress: Show it on stderr; or a function that is called with the name of a stage, how many are
            done, and of how many.
        settings: All others of `csp.settings.SearchSettings`, for example relaxed=60.

    Raises:
        InputError: What was asked for is wrong; before any work.
        MissingError: The library, a model or a device is not there.
    """
    named: dict[str, Any] = {}
    given = Given(
        {one.name: one for one in _generators(generators, named)},
        _models({"surrogate": surrogate, "relaxer": relaxer}, named),
        library if isinstance(library, Library) else None,
    )
    if library is not None and given.library is None:
        named["library"] = _path("library", library)
    folder = None if out is None else _path("out", out)
    for name in settings:
        check_keyword("csp.predict", name, inspect.signature(predict).parameters)
    values = {name: value for name, value in settings.items() if value is not None}
    asked, *more = SearchSettings.read(given.generators, formula=formula, **named, **values).at(pressure)
    if not more and isinstance(pressure, Iterable) and not isinstance(pressure, str):
        raise InputError(f"must be a number, or two different ones (got {pressure!r}).", setting="pressure")
    if resume and out is None:
        raise InputError("A search is resumed from its folder: name it as out.")
    target = asked.target()
    heard = hear_since(time.monotonic()) if progress is True else lambda now, before: None
    about: dict[str, Any] = {"device": device, "resume": resume, "heard": heard, "given": given}
    if not more:
        with _shown(progress, asked) as report:
            return search(asked, target, folder, progress=report, **about)
    from csp.pressures import predict_at

    with _shown(progress, None) as report:
        return predict_at([asked, *more], folder, progress=report, **about)


def _generators(wanted: str | Iterable[str | Generator] | None, named: dict[str, Any]) -> list[Generator]:
    """The objects among the generators; the names of all go into `named`."""
    if wanted is None or isinstance(wanted, str):
        named.update({} if wanted is None else {"generators": wanted})
        return []
    listed = list(wanted) if isinstance(wanted, Iterable) else [wanted]
    objects = [one for one in listed if not isinstance(one, str)]
    for one in objects:
        if not isinstance(one, Generator):
            raise InputError(
                f"The type {type(one).__name__} is no generator: name one, or give an object that keeps "
                "csp.protocols.Generator."
            )
        if one.name in GENERATORS and type(one) is not GENERATORS[one.name]:
            raise InputError(f"A generator of the engine is named {one.name!r}; give yours another name.")
    names = [one if isinstance(one, str) else one.name for one in listed]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"Two generators are named {twice!r}; give one another name.")
    named["generators"] = names
    return objects


def _models(wanted: dict[str, Any], named: dict[str, Any]) -> dict[str, EnergyModel]:
    """The objects among the models, by their names; the names of all go into `named`."""
    objects: dict[str, EnergyModel] = {}
    for role, one in wanted.items():
        if one is None or isinstance(one, (str, Path)):
            named.update({} if one is None else {role: str(one)})
            continue
        model = the_model_itself(as_energy_model(one))
        if model.name == NO_MODEL:
            raise InputError(f"A {role} cannot be named {NO_MODEL!r}, which stands for none at all.")
        if model.name in our_names() and load_model(model.name).label != model.label:
            raise InputError(f"A model of the engine is named {model.name!r}; give yours another name.")
        objects[model.name], named[role] = model, model.name
    if named.get("surrogate") == named.get("relaxer") in objects.keys() - our_names():
        raise InputError(f"Surrogate and relaxer are both named {named['relaxer']!r}; give one another name.")
    return objects


def _path(name: str, given: Any) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"must be a path (got {given!r}).", setting=name)
    return Path(given)


def _shown(progress: bool | Progress, asked: SearchSettings | None) -> AbstractContextManager[Progress]:
    if callable(progress):  # of stages that have nothing to do it is not told
        return nullcontext(lambda stage, done, total: progress(stage, done, total) if total else None)
    return progress_shown(asked) if progress else nullcontext(lambda stage, done, total: None)


def _signature() -> inspect.Signature:
    """That of `predict` with the settings spelt out, for help and for completion."""
    own = inspect.signature(predict)
    parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    others = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation
        )
        for name, field in SearchSettings.model_fields.items()
        if name not in own.parameters
    ]
    return own.replace(parameters=[*parameters, *others])


predict.__signature__ = _signature()  # type: ignore[attr-defined]
