"""Universal potentials: the packages' own calculators are the oracle, the contract holds, damage is told."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.contracts import check_energy_model
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import EnergyModel, Label
from surrogates.potentials import catalogue as published
from surrogates.potentials.adapters import ASEModel
from surrogates.potentials.chgnet import CHGNet
from surrogates.potentials.models import load_chgnet, load_matgl, load_potential
from tests.places import SHARED, needs

TENSORNET = SHARED / "models" / "TensorNet-MatPES-PBE-v2025.1-PES"
with_tensornet = needs(TENSORNET)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The packages print and warn while they load."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def sample() -> Crystals:
    """Distorted crystals: ionic, covalent, metallic, layered, sparse and of isolated atoms."""
    from ase import Atoms
    from ase.build import bulk

    perovskite = Atoms(
        "SrTiO3",
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        cell=[3.9, 3.9, 3.9],
        pbc=True,
    )
    layered = Atoms(
        "BNBN",
        scaled_positions=[[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.5]],
        cell=[[2.5, 0, 0], [-1.25, 2.165, 0], [0, 0, 6.6]],
        pbc=True,
    )
    atoms = [perovskite, bulk("Si"), bulk("Fe", cubic=True), layered, bulk("Xe", "fcc", a=6.3)]
    atoms.append(Atoms("CsAu", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[15, 15, 15], pbc=True))
    atoms[3] = atoms[3].repeat((1, 2, 1))
    crystals = Crystals.from_atoms(atoms)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(crystals.frac.shape, generator=generator, dtype=torch.float64)
    strain = 0.02 * torch.randn(len(crystals), 3, 3, generator=generator, dtype=torch.float64)
    return replace(crystals, frac=crystals.frac + 0.005 * noise, cell=crystals.cell + crystals.cell @ strain)


def assert_same(model: EnergyModel, reference: EnergyModel, crystals: Crystals) -> None:
    """|ΔE| ≤ 1e-4 eV/atom, |ΔF| ≤ 1e-3 eV/Å, |Δσ| ≤ 1e-4 eV/Å³."""
    found, expected = model.evaluate(crystals, forces=True), reference.evaluate(crystals, forces=True)
    torch.testing.assert_close(
        found.energy / crystals.n_atoms, expected.energy / crystals.n_atoms, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.stress, expected.stress, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.evaluate(crystals).energy, found.energy, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def chgnet() -> EnergyModel:
    return load_chgnet()


@pytest.fixture(scope="module")
def tensornet() -> EnergyModel:
    return load_matgl(TENSORNET)


def test_chgnet_gives_the_numbers_of_its_package(chgnet: EnergyModel) -> None:
    with quiet():
        from chgnet.model.dynamics import CHGNetCalculator

        calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")
        assert_same(chgnet, ASEModel(calculator, chgnet.label, chgnet.elements), sample())


@with_tensornet
def test_tensornet_gives_the_numbers_of_its_package(tensornet: EnergyModel) -> None:
    with quiet():
        import matgl
        from matgl.ext.ase import PESCalculator

        calculator = PESCalculator(matgl.load_model(TENSORNET), stress_unit="eV/A3")
        reference = ASEModel(calculator, tensornet.label, tensornet.elements)
        assert_same(tensornet, reference, sample()[:5])  # its own calculator fails without any bond


def test_chgnet_keeps_the_contract() -> None:
    """In double precision, for its derivative has a kink wherever two bonds are in line."""
    model = load_chgnet(dtype=torch.float64)
    check_energy_model(model, sample()[[0, 1, 3]], difference_tolerance=1e-4, step=1e-4)


@with_tensornet
def test_tensornet_keeps_the_contract() -> None:
    model = load_matgl(TENSORNET, dtype=torch.float64)
    check_energy_model(model, sample()[[0, 1]], difference_tolerance=1e-4, step=1e-3)


def test_results_do_not_depend_on_the_chunks(chgnet: EnergyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    crystals = sample()
    whole = chgnet.evaluate(crystals, forces=True)
    monkeypatch.setattr(CHGNet, "load_at_once", {"cpu": 1})
    parts = chgnet.evaluate(crystals, forces=True)
    torch.testing.assert_close(parts.energy, whole.energy, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.forces, whole.forces, rtol=0, atol=1e-4)


def test_elements(chgnet: EnergyModel) -> None:
    assert {1, 8, 26, 92, 94} <= chgnet.elements
    assert not {84, 95} & chgnet.elements  # polonium is not in its training data, americium beyond its table
    crystals = sample()[:1]
    with pytest.raises(InputError, match="does not know Po"):
        chgnet.evaluate(replace(crystals, numbers=torch.full_like(crystals.numbers, 84)))


def test_labels_tell_models_apart(chgnet: EnergyModel) -> None:
    assert chgnet.label.correction == "MP2020"
    assert chgnet.label == load_potential("chgnet").label


@with_tensornet
def test_tensornet_label(tensornet: EnergyModel, tmp_path: Path) -> None:
    assert (tensornet.label.functional, tensornet.label.correction) == ("PBE", "none")
    assert 8 in tensornet.elements


def test_any_ase_calculator() -> None:
    from ase.calculators.emt import EMT

    label = Label("EMT", "none", "ase")
    model = ASEModel(EMT(), label, frozenset({13, 29, 47, 79}))
    crystals = Crystals.from_arrays(
        [[[2.6, 0, 0], [0.2, 2.7, 0], [0, 0.1, 5.1]]], [[[0, 0, 0], [0.5, 0.45, 0.52]]], [[29, 79]]
    )
    check_energy_model(model, crystals, difference_tolerance=1e-3, step=1e-3)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"There is no potential 'mace'.*chgnet"):
        load_potential("mace")


def test_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "CHGNET_WEIGHTS", "pretrained/none.tar")
    with pytest.raises(MissingError, match="weights are missing"):
        load_chgnet()


def test_downloads_are_where_matgl_looks_for_them() -> None:
    with quiet():
        from matgl.config import MATGL_CACHE
        from matgl.utils.io import HF_MATGL_ORG
    assert (published.MATGL_CACHE, published.MATGL_ORGANISATION) == (MATGL_CACHE, HF_MATGL_ORG)


@with_tensornet
@pytest.mark.parametrize("damaged", ["model.json", "model.pt", "state.pt"])
def test_damaged_files(damaged: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TENSORNET, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:300])
    with pytest.raises(InputError, match="damaged"):
        load_potential(folder)
    (folder / damaged).unlink()
    with pytest.raises(InputError, match=f"{damaged} is not there"):
        load_potential(folder)


@pytest.mark.parametrize("architecture", ["M3GNet", "SO3Net"])
def test_matgl_computes_what_there_is_no_faster_path_for(architecture: str, tmp_path: Path) -> None:
    """A potential that was never trained, as matgl writes it."""
    folder = tmp_path / "mine-r2SCAN"
    with quiet():
        import matgl.models
        from matgl.apps.pes import Potential
        from matgl.ext.ase import PESCalculator

        torch.manual_seed(0)
        network = getattr(matgl.models, architecture)(element_types=("C", "Si"), is_intensive=False)
        potential = Potential(network, calc_stresses=True)
        potential.save(folder)
        model = load_potential(folder)
        assert (model.name, model.label.functional, model.elements) == ("mine-r2SCAN", "r2SCAN", {6, 14})
        assert model.label.checkpoint.startswith(f"{architecture.lower()}-")
        reference = ASEModel(PESCalculator(potential, stress_unit="eV/A3"), model.label, model.elements)
        assert_same(model, reference, sample()[1:2])


@with_tensornet
def test_weights_and_architecture_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TENSORNET, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    content = torch.load(folder / "model.pt", weights_only=True)
    content["model"]["init_args"]["rbf_type"] = "Gaussian"  # which we leave to matgl
    content["model"]["init_args"]["units"] = 32
    torch.save(content, folder / "model.pt")
    with quiet(), pytest.raises(InputError, match="matgl cannot load the potential model"):
        load_potential(folder)
    outer = json.loads((folder / "model.json").read_text())
    outer["@class"] = "MEGNet"
    (folder / "model.json").write_text(json.dumps(outer))
    with pytest.raises(InputError, match="holds a MEGNet; only potentials of matgl"):
        load_potential(folder)


class Executed:
    """What a pickle can do to who opens it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a model file was executed')",)


@with_tensornet
def test_nothing_in_a_model_file_is_executed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TENSORNET, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    torch.save({"model": Executed()}, folder / "state.pt")
    with pytest.raises(InputError, match="damaged"):
        load_potential(folder)


@pytest.mark.parametrize("place", ["model.json", "model.pt", "nested"])
def test_no_class_but_a_model_of_matgl_is_made(place: str, tmp_path: Path) -> None:
    """matgl itself makes an object of any class that the files name: here a process."""
    made = tmp_path / "made"
    program = {"@module": "subprocess", "@class": "Popen", "init_args": {"args": ["touch", str(made)]}}
    model = {"@module": "matgl.models._m3gnet", "@class": "M3GNet", "init_args": {"element_types": ["Si"]}}
    outer = {"@module": "matgl.apps._pes", "@class": "Potential", "@model_version": 3}
    if place == "model.json":
        outer["@module"] = "subprocess"
    nested = {**model, "init_args": {"element_types": ["Si"], "activation": [program]}}
    content = {"model": {"model.json": model, "model.pt": program, "nested": nested}[place]}
    torch.save(content, tmp_path / "model.pt")
    torch.save({}, tmp_path / "state.pt")
    (tmp_path / "model.json").write_text(json.dumps(outer))
    with pytest.raises(InputError, match="which is no model of matgl"):
        load_potential(tmp_path)
    assert not made.exists()


def test_stress_is_positive_under_tension(chgnet: EnergyModel) -> None:
    crystals = sample()[1:2]
    stretched = replace(crystals, cell=1.08 * crystals.cell)
    stress = chgnet.evaluate(stretched, forces=True).stress
    assert stress is not None
    assert np.trace(stress[0].numpy()) > 0
