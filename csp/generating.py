"""The generators of a search: the engine's own, those of other packages, and starts that a person gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from csp import plugins
from csp.errors import ContractError
from csp.library.given import read_crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Generator
from csp.settings import SearchSettings
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from generators.space_group.generator import SpaceGroupGenerator
from generators.starts import Starts
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.template import TemplateGenerator

__all__ = ["GENERATORS", "generators_for", "given_starts"]

GENERATORS: dict[str, Callable[[Library, VolumePrior], Generator]] = {
    "template": TemplateGenerator,
    "metric_learning": MetricLearningGenerator,
    "space_group": SpaceGroupGenerator,
    "random": RandomGenerator,
}


def generators_for(
    settings: SearchSettings, library: Library, volume: VolumePrior, given: Mapping[str, Generator]
) -> list[Generator]:
    """Those that the settings name.

    Args:
        given: By name, what takes the place of the engine's own.

    Raises:
        ContractError: What another package offers is no generator, or calls itself otherwise.
    """
    return [given.get(name) or _generator(name, library, volume) for name in settings.generators]


def given_starts(
    settings: SearchSettings, target: Target, volume: VolumePrior, factor: float
) -> list[Starts]:
    """One generator of what the files or folders in the settings hold; none where none are named.

    Args:
        factor: By which the volumes of all proposals are going to be scaled.

    Raises:
        InputError, MissingError: For what is not there, or cannot be a start.
    """
    if not settings.starts:
        return []
    return [Starts(read_crystals(settings.starts), target, volume, factor)]


def _generator(name: str, library: Library, volume: VolumePrior) -> Generator:
    """The engine's own generator of a name, or what another package offers under it.

    Raises:
        ContractError: What is offered is no generator, or calls itself otherwise.
    """
    offered = plugins.find(plugins.GENERATORS, name, GENERATORS)
    if offered is None:
        return GENERATORS[name](library, volume)
    generator = plugins.load(offered)(library, volume)
    if not isinstance(generator, Generator):
        raise ContractError(
            f"{name} of {plugins.origin(offered)} gives a {type(generator).__name__}, not a generator with a "
            "name and propose."
        )
    if generator.name != name:
        raise ContractError(f"{name} of {plugins.origin(offered)} gives a generator named {generator.name}.")
    return generator
