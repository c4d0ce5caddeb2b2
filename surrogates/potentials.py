"""Universal potentials as energy models: CHGNet, matgl's TensorNet, any ASE calculator.

The networks run on graphs built for a whole chunk of crystals at once from `csp.geometry`'s neighbour
list; energies agree with the packages' own calculators to float32 rounding.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import math
import pickle
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.geometry import neighbour_list
from csp.protocols import EnergyModel, Evaluation, Label
from surrogates.chgnet import CHGNet

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

__all__ = ["ASEModel", "NetworkModel", "load_chgnet", "load_potential", "load_tensornet"]

CHGNET_WEIGHTS = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
CHGNET_ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))  # Po-Ra are not in its training data
MATGL_FILES = ("model.json", "model.pt", "state.pt")
MATGL_NAMES = ("TensorNet-PES-MatPES-PBE-2025.2", "TensorNet-PES-MatPES-r2SCAN-2025.2")
KNOWN = f"Known: chgnet, {', '.join(MATGL_NAMES)}, or the folder of a matgl TensorNet potential"

T = TypeVar("T")

# Directed bonds that go through a network at once. On a CPU the features of a chunk should stay in the
# caches: large batches are slower per crystal. On a GPU they are what fills it.
BONDS_AT_ONCE = {"cpu": 4_000, "cuda": 400_000}


class Bonds(Protocol):
    """The part of a network's graph that derivatives need: E bonds, each once or in both directions."""

    @property
    def ends(self) -> Tensor:
        """int64 [2, E]: the two atoms of each bond."""
        ...

    @property
    def vector(self) -> Tensor:
        """float [E, 3]: from the first end to the second, Å."""
        ...


class Network(Protocol):
    """Energies as a differentiable function of the vectors between neighbouring atoms."""

    cutoff: float

    def graph(self, crystals: Crystals) -> Bonds: ...

    def energies(self, graph: Any, crystals: Crystals) -> Tensor:
        """float [A]: the energies of the atoms, eV; differentiable by `graph.vector`."""
        ...


class NetworkModel:
    """An `EnergyModel` of a graph network; forces and stress from one backward pass to the bonds.

    With g_b = dE/dv_b for the bond vector v_b = r_j − r_i, the force on i is Σ g_b, on j −Σ g_b, and
    the stress is (1/V) Σ_b v_b ⊗ g_b.
    """

    def __init__(
        self, network: Network, *, name: str, label: Label, elements: frozenset[int], device: torch.device
    ) -> None:
        self.name, self.label, self.elements, self.device = name, label, elements, device
        self._network = network

    def evaluate(self, crystals: Crystals, *, forces: bool = False) -> Evaluation:
        """See `EnergyModel`. Raises InputError for elements the potential does not know."""
        _check_elements(self, crystals)
        parts = _on_all_cores(
            [partial(self._chunk, chunk, forces) for chunk in self._chunks(crystals.to(self.device))],
            self.device,
        )
        home = crystals.device
        if not parts:
            zeros = torch.zeros((0, 3), dtype=torch.float64, device=home)
            return Evaluation(self.label, zeros[:, 0], *((zeros, zeros.reshape(0, 3, 3)) if forces else ()))
        energy, force, stress = (
            torch.cat(column).to(home) if column[0] is not None else None
            for column in zip(*parts, strict=True)
        )
        assert energy is not None
        return Evaluation(self.label, energy, force, stress)

    def _chunks(self, crystals: Crystals) -> list[Crystals]:
        """Runs of crystals with at most about BONDS_AT_ONCE bonds, their number a multiple of the cores'."""
        if len(crystals) == 0:
            return []
        sphere = 4 / 3 * math.pi * self._network.cutoff**3
        expected = crystals.n_atoms**2 * sphere / crystals.volumes
        before = torch.cumsum(expected, 0) - expected / 2
        workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        limit = BONDS_AT_ONCE.get(self.device.type, BONDS_AT_ONCE["cpu"])
        total = float(expected.sum())
        n_chunks = workers * math.ceil(total / (workers * limit))
        chunk = (before * (n_chunks / total)).long()
        sizes = torch.unique_consecutive(chunk, return_counts=True)[1].tolist()
        stops = list(itertools.accumulate(sizes))
        return [crystals[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]

    def _chunk(self, crystals: Crystals, forces: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        graph = self._network.graph(crystals)
        vector = graph.vector.requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            atoms = self._network.energies(graph, crystals)
        energy = vector.new_zeros(len(crystals), dtype=torch.float64)
        energy = energy.index_add(0, crystals.batch, atoms.detach().double())
        if not forces:
            return energy, None, None
        (gradient,) = torch.autograd.grad(atoms.sum(), vector)
        gradient, vector = gradient.double(), vector.detach().double()
        i, j = graph.ends
        force = torch.zeros_like(crystals.frac, dtype=torch.float64)
        force.index_add_(0, i, gradient).index_add_(0, j, -gradient)
        virial = torch.zeros_like(crystals.cell, dtype=torch.float64)
        virial.index_add_(0, crystals.batch[i], vector[:, :, None] * gradient[:, None, :])
        return energy, force, virial / crystals.volumes[:, None, None]


def load_chgnet(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> NetworkModel:
    """CHGNet 0.3.0 (89 elements, PBE/PBE+U on the Materials Project's corrected scale).

    The weights come with the package `chgnet`. Raises MissingError without it, InputError if the file
    is damaged.
    """
    device = torch.device(device)
    package = importlib.util.find_spec("chgnet")
    if package is None or package.origin is None:
        raise MissingError("CHGNet's weights are missing; install the package chgnet.")
    path = Path(package.origin).parent / CHGNET_WEIGHTS
    if not path.is_file():
        raise MissingError(f"CHGNet's weights are missing: {path} does not exist; install chgnet 0.4.")
    weights = _read(path)["model"]["state_dict"]
    network = CHGNet(weights, cutoff=6.0, bond_cutoff=3.0, cutoff_power=8, device=device, dtype=dtype)
    label = Label("PBE+U", "MP2020", f"chgnet-0.3.0-{_digest(path)}")
    return NetworkModel(
        network,
        name="chgnet",
        label=label,
        elements=CHGNET_ELEMENTS,
        device=device,
    )


class _TensorNetGraph(SimpleNamespace):
    """What matgl's TensorNet reads of a graph. All atoms sit at the origin and `pbc_offshift` holds the
    whole bond vectors, so that the energy is a function of these; every atom is a graph of its own, so
    that energies come by atom."""

    ends: Tensor
    vector: Tensor


class TensorNet:
    """matgl's TensorNet potential on batched graphs."""

    def __init__(self, potential: Any) -> None:
        self._model = potential.model
        self._scale, self._references = potential.data_std, potential.element_refs
        self.cutoff = float(potential.model.cutoff)
        symbols = potential.model.element_types
        from ase.data import atomic_numbers

        self.numbers = [atomic_numbers[s] for s in symbols]
        self._index = torch.full((120,), -1, device=self._scale.device)
        self._index[torch.tensor(self.numbers)] = torch.arange(len(symbols), device=self._scale.device)

    def graph(self, crystals: Crystals) -> _TensorNetGraph:
        pairs = neighbour_list(crystals, self.cutoff)
        n_atoms = len(crystals.numbers)
        ends, vector = torch.stack([pairs.i, pairs.j]), pairs.vector.to(self._scale.dtype)
        return _TensorNetGraph(
            ends=ends,
            vector=vector,
            edge_index=ends,
            pbc_offshift=vector,
            pos=vector.new_zeros(n_atoms, 3),
            node_type=self._index[crystals.numbers],
            batch=torch.arange(n_atoms, device=ends.device),
            num_graphs=n_atoms,
        )

    def energies(self, graph: _TensorNetGraph, crystals: Crystals) -> Tensor:
        energy: Tensor = self._scale * self._model(g=graph).double()
        if self._references is not None:
            energy = energy + self._references.property_offset[graph.node_type]
        return energy


def load_tensornet(
    name_or_path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> NetworkModel:
    """A TensorNet potential of matgl, from its folder or by published name (then downloaded).

    Raises InputError if the files are damaged or hold another architecture, MissingError if the model
    is not here and cannot be downloaded.
    """
    device = torch.device(device)
    folder = Path(name_or_path)
    files = {f: folder / f for f in MATGL_FILES} if folder.is_dir() else _download(str(name_or_path))
    missing = [f for f, path in files.items() if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder} is not the folder of a matgl potential: {', '.join(missing)} is not there."
        )
    _check_is_tensornet(folder, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matgl.apps.pes import Potential

        try:
            potential = Potential.load(files)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The matgl potential {folder} is damaged or of another version of matgl."
            ) from error
    if float(potential.data_mean) != 0.0 or potential.calc_repuls or potential.calc_charge:
        raise InputError(
            f"{folder} adds terms to its network's energy that are not supported here; use ASEModel."
        )
    potential = potential.to(device, dtype).eval().requires_grad_(False)
    network = TensorNet(potential)
    functional = next((f for f in ("r2SCAN", "PBE") if f.lower() in folder.name.lower()), folder.name)
    label = Label(functional, "none", f"tensornet-{_digest(files['state.pt'])}")
    return NetworkModel(
        network, name=folder.name, label=label, elements=frozenset(network.numbers), device=device
    )


def _check_is_tensornet(folder: Path, files: dict[str, Path]) -> None:
    """matgl instantiates whatever classes its files name: let it see nothing but its own TensorNet."""
    try:
        outer = json.loads(files["model.json"].read_text())
        inner = _read(files["model.pt"])["model"]
        found = outer["@module"], outer["@class"], inner["@module"], inner["@class"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The matgl potential {folder} is damaged: it does not name its classes.") from error
    ours = found[0].startswith("matgl.apps.") and found[2].startswith("matgl.models.")
    if not ours or (found[1], found[3]) != ("Potential", "TensorNet"):
        raise InputError(
            f"{folder} holds {found[1]} of {found[3]}; of matgl's potentials only TensorNet is batched."
        )


def _download(name: str) -> dict[str, Path]:
    if name not in MATGL_NAMES:
        raise InputError(f"There is no potential {name!r}. {KNOWN}.")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from matgl.config import MATGL_CACHE
    from matgl.utils.io import HF_MATGL_ORG

    try:
        return {
            f: Path(hf_hub_download(f"{HF_MATGL_ORG}/{name}", f, cache_dir=MATGL_CACHE)) for f in MATGL_FILES
        }
    except (OSError, HfHubHTTPError) as error:
        raise MissingError(
            f"{name} is not on this machine and cannot be downloaded; name a folder, or use chgnet."
        ) from error


class ASEModel:
    """Any ASE calculator, one crystal after the other: the slow reference."""

    device = torch.device("cpu")

    def __init__(self, calculator: BaseCalculator, label: Label, elements: frozenset[int]) -> None:
        self.name = type(calculator).__name__
        self.label, self.elements = label, elements
        self._calculator = calculator

    def evaluate(self, crystals: Crystals, *, forces: bool = False) -> Evaluation:
        """See `EnergyModel`. Whatever the calculator raises is passed on."""
        _check_elements(self, crystals)
        energy = torch.zeros(len(crystals), dtype=torch.float64)
        force = torch.zeros((len(crystals.numbers), 3), dtype=torch.float64) if forces else None
        stress = torch.zeros((len(crystals), 3, 3), dtype=torch.float64) if forces else None
        offsets = crystals.offsets.tolist()
        for b, atoms in enumerate(crystals.atoms()):
            atoms.calc = self._calculator
            energy[b] = float(atoms.get_potential_energy())
            if force is not None and stress is not None:
                force[offsets[b] : offsets[b + 1]] = torch.as_tensor(atoms.get_forces(), dtype=torch.float64)
                stress[b] = torch.as_tensor(atoms.get_stress(voigt=False), dtype=torch.float64)
        home = crystals.device
        if force is None or stress is None:
            return Evaluation(self.label, energy.to(home))
        return Evaluation(self.label, energy.to(home), force.to(home), stress.to(home))


def load_potential(name_or_path: str | Path, device: torch.device | str = "cpu") -> EnergyModel:
    """`chgnet`, a published TensorNet of matgl by name, or the folder of one.

    Raises InputError for a name that means nothing or a damaged file, MissingError for what is not here.
    """
    if str(name_or_path).lower() == "chgnet":
        return load_chgnet(device)
    return load_tensornet(name_or_path, device)


def _on_all_cores(tasks: Sequence[Callable[[], T]], device: torch.device) -> list[T]:
    """The results of the tasks, in order. On a CPU each runs in one thread, as many side by side as torch
    is set to use: the operations of a chunk are many and small, and cores that share each of them mostly
    wait for one another."""
    if device.type != "cpu":
        return [task() for task in tasks]
    threads = torch.get_num_threads()

    def alone(task: Callable[[], T]) -> T:
        torch.set_num_threads(1)  # of this worker, but threads made later would start with it too
        return task()

    try:
        if len(tasks) < 2 or threads == 1:
            return [alone(task) for task in tasks]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(alone, tasks))
    finally:
        torch.set_num_threads(threads)


def _check_elements(model: EnergyModel, crystals: Crystals) -> None:
    unknown = set(crystals.numbers.unique().tolist()) - model.elements
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] for z in sorted(unknown))
        raise InputError(f"The potential {model.name} does not know {names}.")


def _read(path: Path) -> dict[str, Any]:
    """A torch file, tensors and plain values only; nothing in it is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise InputError(f"The model file {path} is damaged.") from error
    if not isinstance(content, dict):
        raise InputError(f"The model file {path} is damaged.")
    return content


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
