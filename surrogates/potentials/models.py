"""Universal potentials as energy models: CHGNet, Nequix, matgl's TensorNet and, slower, its other potentials.

The networks run on graphs built for a whole chunk of crystals at once from
`csp.crystallography.neighbours`'s neighbour list; energies agree with the packages' own calculators to
float32 rounding.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals, ranges
from csp.errors import InputError
from csp.protocols import EnergyModel, Evaluation, Label
from surrogates.potentials import catalogue as published
from surrogates.potentials.adapters import check_known_elements
from surrogates.potentials.by_matgl import load_by_matgl
from surrogates.potentials.chgnet import CHGNet
from surrogates.potentials.nequix import Nequix
from surrogates.potentials.nequix_file import read_nqx
from surrogates.potentials.tensornet import TensorNet

__all__ = ["NetworkModel", "load_chgnet", "load_matgl", "load_nequix", "load_potential"]

T = TypeVar("T")


class Network(Protocol):
    """Energies as a differentiable function of the vectors between neighbouring atoms.

    Attributes:
        load_at_once: By type of device: how much of `load` goes through together.
        uses_orbits: False: it computes every atom, whatever it is told of symmetry.
    """

    cutoff: float
    load_at_once: ClassVar[Mapping[str, int]]
    uses_orbits: ClassVar[bool]

    def load(self, crystals: Crystals, n_sites: Tensor) -> Tensor:
        """float [B]: what crystals of so many sites [B] cost, in its own unit."""
        ...

    def graph(self, crystals: Crystals, surroundings: Surroundings) -> Any:
        """With `ends` int64 [2, N], the atoms of each bond, and `vector` float [N, 3] between them, Å."""
        ...

    def energies(self, graph: Any, crystals: Crystals) -> Tensor:
        """float [T]: the energies of the sites, eV; differentiable by `graph.vector`."""
        ...


class NetworkModel:
    """An `EnergyModel` of a graph network; forces and stress from one backward pass to the bonds.

    With g_b = dE/dv_b for the bond vector v_b = r_j − r_i, the force on i is Σ g_b, on j −Σ g_b, and
    the stress is (1/V) Σ_b v_b ⊗ g_b; of sites only, both are projected on what their symmetry allows.
    """

    def __init__(
        self, network: Network, *, name: str, label: Label, elements: frozenset[int], device: torch.device
    ) -> None:
        self.name, self.label, self.elements, self.device = name, label, elements, device
        self._network = network

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """See `EnergyModel`.

        Raises:
            InputError: For an element that the potential does not know.
        """
        check_known_elements(self.name, self.elements, crystals)
        there = crystals.to(self.device)
        if surroundings is None or not self._network.uses_orbits:
            surroundings = Surroundings.of(there)
        surroundings = surroundings.to(self.device)
        surroundings.update(there, self._network.cutoff)
        chunks = self._chunks(there, surroundings.orbits.n_sites)
        parts = _on_all_cores(
            [partial(self._chunk, there, surroundings, rows, forces) for rows in chunks], self.device
        )
        energy = there.cell.new_zeros(len(there), dtype=torch.float64)
        force = torch.zeros_like(there.frac, dtype=torch.float64)
        stress = torch.zeros_like(there.cell, dtype=torch.float64)
        for rows, (of_energy, of_forces, of_stress) in zip(chunks, parts, strict=True):
            energy[rows] = of_energy
            if of_forces is not None and of_stress is not None:
                force[ranges(there.offsets[rows], there.n_atoms[rows])] = of_forces
                stress[rows] = of_stress
        home = crystals.device
        derivatives = (force.to(home), stress.to(home)) if forces else ()
        return Evaluation(self.label, energy.to(home), *derivatives)

    def _chunks(self, crystals: Crystals, n_sites: Tensor) -> list[Tensor]:
        """Rows of crystals of similar size and density, of about `load_at_once` at most, as many chunks for
        each core."""
        if len(crystals) == 0:
            return []
        order = torch.argsort(crystals.volumes / crystals.n_atoms, stable=True)
        order = order[torch.argsort(crystals.n_atoms[order], stable=True)]
        load = self._network.load(crystals, n_sites)[order].double()
        before = torch.cumsum(load, 0) - load / 2
        workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        limits = self._network.load_at_once
        limit = limits.get(self.device.type, limits["cpu"])
        total = float(load.sum())
        n_chunks = workers * math.ceil(total / (workers * limit))
        chunk = (before * (n_chunks / total)).long()
        return list(order.split(torch.unique_consecutive(chunk, return_counts=True)[1].tolist()))

    def _chunk(
        self, crystals: Crystals, surroundings: Surroundings, rows: Tensor, forces: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        crystals, surroundings = crystals[rows], surroundings[rows]
        orbits, batch = surroundings.orbits, crystals.batch
        graph = self._network.graph(crystals, surroundings)
        vector = graph.vector.requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            sites = self._network.energies(graph, crystals) * orbits.multiplicity
        energy = vector.new_zeros(len(crystals), dtype=torch.float64)
        energy = energy.index_add(0, batch[orbits.sites], sites.detach().double())
        if not forces:
            return energy, None, None
        (gradient,) = torch.autograd.grad(sites.sum(), vector)
        gradient, vector = gradient.double(), vector.detach().double()
        i, j = graph.ends
        force = torch.zeros_like(crystals.frac, dtype=torch.float64)
        force.index_add_(0, i, gradient).index_add_(0, j, -gradient)
        virial = torch.zeros_like(crystals.cell, dtype=torch.float64)
        virial.index_add_(0, batch[i], vector[:, :, None] * gradient[:, None, :])
        return energy, *orbits.project(force, virial / crystals.volumes[:, None, None])


def load_chgnet(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> NetworkModel:
    """CHGNet 0.3.0 (89 elements, PBE/PBE+U on the Materials Project's corrected scale).

    The weights come with the package `chgnet`.

    Raises:
        MissingError: The package is not there.
        InputError: The file is damaged.
    """
    device = torch.device(device)
    (path,) = published.files("chgnet")
    weights = _read(path)["model"]["state_dict"]
    network = CHGNet(weights, cutoff=6.0, bond_cutoff=3.0, cutoff_power=8, device=device, dtype=dtype)
    label = Label("PBE+U", "MP2020", f"chgnet-0.3.0-{_digest(path)}")
    return NetworkModel(
        network,
        name="chgnet",
        label=label,
        elements=published.ELEMENTS,
        device=device,
    )


def load_nequix(
    path: Path, name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> NetworkModel:
    """A Nequix of the published architecture from its .nqx file (89 elements, PBE/PBE+U, uncorrected).

    Raises:
        MissingError: There is no file.
        InputError: It is damaged or holds another architecture.
    """
    device = torch.device(device)
    config, arrays = read_nqx(path)
    try:
        network = Nequix(config, arrays, device=device, dtype=dtype)
    except ValueError as error:
        raise InputError(f"The model file {path} is damaged: {error}.") from error
    label = Label("PBE+U", "none", f"{name}-{_digest(path)}")
    return NetworkModel(network, name=name, label=label, elements=network.elements, device=device)


def load_matgl(
    name_or_path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> EnergyModel:
    """A potential of matgl, from its folder or by published name (then downloaded). What is not a TensorNet
    as we compute it faster, matgl itself computes (`load_by_matgl`).

    Raises:
        InputError: The files are damaged or hold no potential.
        MissingError: The model is not here and cannot be downloaded.
    """
    from ase.data import atomic_numbers

    device = torch.device(device)
    folder = Path(name_or_path)
    paths = published.files(folder) if folder.is_dir() else published.download(str(name_or_path))
    files = {path.name: path for path in paths}
    try:
        outer, options = json.loads(files["model.json"].read_text()), _read(files["model.pt"])["model"]
        classes = outer["@class"], options["@class"]
        arguments, weights = options["init_args"], _read(files["state.pt"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The matgl potential {folder} is damaged: {error}.") from error
    if classes[0] != "Potential":
        raise InputError(f"{folder} holds a {classes[0]}; only potentials of matgl have forces and stress.")
    functional = next((f for f in ("r2SCAN", "PBE") if f.lower() in folder.name.lower()), folder.name)
    label = Label(functional, "none", f"{str(classes[1]).lower()}-{_digest(files['state.pt'])}")
    if classes[1] != "TensorNet":
        return load_by_matgl(files["state.pt"].parent, label, name=folder.name)
    numbers = [atomic_numbers[symbol] for symbol in arguments["element_types"]]
    try:
        network = TensorNet(weights, arguments, numbers, device=device, dtype=dtype)
    except ValueError:  # options that are not the usual ones
        return load_by_matgl(files["state.pt"].parent, label, name=folder.name)
    except KeyError as error:
        raise InputError(f"The matgl potential {folder} is damaged: {error} is missing.") from error
    return NetworkModel(network, name=folder.name, label=label, elements=frozenset(numbers), device=device)


def load_potential(name_or_path: str | Path, device: torch.device | str = "cpu") -> EnergyModel:
    """`chgnet`, a published Nequix or potential of matgl by name, or the folder of one of matgl.

    Raises:
        InputError: The name means nothing, or a file is damaged.
        MissingError: It is not here.
    """
    if str(name_or_path).lower() == "chgnet":
        return load_chgnet(device)
    if str(name_or_path) in published.NEQUIX:
        (path,) = published.download(str(name_or_path))
        return load_nequix(path, str(name_or_path), device)
    return load_matgl(name_or_path, device)


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
