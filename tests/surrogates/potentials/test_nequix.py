"""Nequix: the authors' numbers and the plain implementation are the oracles; damage is told; parts rotate."""

from __future__ import annotations

import importlib.util
import json
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from csp.contracts import check_energy_model
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import EnergyModel
from surrogates.potentials import catalogue as published
from surrogates.potentials.models import load_nequix, load_potential
from surrogates.potentials.nequix import Nequix
from surrogates.potentials.nequix_couplings import L_MAX, coupling, rotation_matrices, spherical_harmonics
from surrogates.potentials.nequix_file import read_nqx
from surrogates.potentials.nequix_radial import RadialTable, radial_basis
from tests.places import SHARED, needs
from tests.symmetric_crystals import symmetric_crystals

FOLDER = SHARED / "models" / "nequix-oam-1"
NAMES = ("nequix-oam-1", "nequix-oam-1-pft")
pytestmark = needs(FOLDER)


@pytest.fixture(scope="module")
def model() -> EnergyModel:
    return load_nequix(FOLDER / "nequix-oam-1.nqx", "nequix-oam-1")


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nequix_reference", FOLDER / "nequix_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample() -> Crystals:
    """Unsymmetric: four of the crystals in all space groups, shaken."""
    crystals = symmetric_crystals()[[1, 61, 135, 193]]
    noise = torch.randn(crystals.frac.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return crystals.with_geometry(crystals.cell, crystals.frac + 0.01 * noise)


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_numbers(name: str) -> None:
    """JAX in single precision: 1e-5 eV/atom, 1e-4 eV/Å, 1e-6 eV/Å³."""
    rows = list(json.loads((FOLDER / "reference.json").read_text()).values())
    crystals = Crystals.from_arrays(
        [row["cell"] for row in rows],
        [np.linalg.solve(np.array(row["cell"]).T, np.array(row["positions"]).T).T for row in rows],
        [row["numbers"] for row in rows],
    )
    found = load_nequix(FOLDER / f"{name}.nqx", name).evaluate(crystals, forces=True)
    expected = [
        torch.cat([torch.tensor(row[name][key], dtype=torch.float64).view(shape) for row in rows])
        for key, shape in (("energy", (1,)), ("forces", (-1, 3)), ("stress", (1, 3, 3)))
    ]
    torch.testing.assert_close(
        found.energy / crystals.n_atoms, expected[0] / crystals.n_atoms, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(found.forces, expected[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.stress, expected[2], rtol=0, atol=1e-6)


def test_the_plain_implementation(model: EnergyModel, plain: ModuleType) -> None:
    crystals = sample()
    found = model.evaluate(crystals, forces=True)
    calculator = plain.NequixCalc(FOLDER / "nequix-oam-1.nqx")
    energy, forces = [], []
    for atoms in crystals.atoms():
        atoms.calc = calculator
        energy.append(atoms.get_potential_energy())
        forces.append(torch.from_numpy(atoms.get_forces()))
    expected = torch.tensor(energy, dtype=torch.float64)
    torch.testing.assert_close(
        found.energy / crystals.n_atoms, expected / crystals.n_atoms, rtol=0, atol=2e-5
    )
    torch.testing.assert_close(found.forces, torch.cat(forces), rtol=1e-5, atol=2e-4)


def test_it_keeps_the_contract() -> None:
    """In double precision, where finite differences tell more."""
    model = load_nequix(FOLDER / "nequix-oam-1.nqx", "nequix-oam-1", dtype=torch.float64)
    crystals = sample()[:2]
    check_energy_model(
        model,
        crystals,
        energy_tolerance=1e-9,
        force_tolerance=1e-8,
        stress_tolerance=1e-9,
        difference_tolerance=1e-4,
        step=3e-3,
    )


def test_single_precision_keeps_the_contract(model: EnergyModel) -> None:
    check_energy_model(model, sample()[:2])


def test_results_do_not_depend_on_the_chunks(model: EnergyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.evaluate(sample(), forces=True)
    monkeypatch.setattr(Nequix, "load_at_once", {"cpu": 1})
    parts = model.evaluate(sample(), forces=True)
    torch.testing.assert_close(parts.energy, whole.energy, rtol=0, atol=1e-4)
    torch.testing.assert_close(parts.forces, whole.forces, rtol=1e-5, atol=1e-4)


def test_label_and_elements(model: EnergyModel) -> None:
    assert (model.label.functional, model.label.correction) == ("PBE+U", "none")
    assert model.label != load_nequix(FOLDER / "nequix-oam-1-pft.nqx", "nequix-oam-1-pft").label
    assert model.elements == published.ELEMENTS
    with pytest.raises(InputError, match="does not know Po"):
        model.evaluate(Crystals.from_arrays([3 * np.eye(3)], [[[0, 0, 0]]], [[84]]))


def test_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CSP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="CSP_OFFLINE"):
        load_potential("nequix-oam-1")
    for folder in (FOLDER, FOLDER.parent):
        monkeypatch.setenv("CSP_MODELS", f"{tmp_path}:{folder}")
        for name in NAMES:
            assert load_potential(name).name == name
            found, expected = published.hashes(name)
            assert found == expected


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "damaged.nqx"
    with pytest.raises(MissingError, match=r"There is no model file .*damaged\.nqx\."):
        read_nqx(path)
    content = (FOLDER / "nequix-oam-1.nqx").read_bytes()
    first = content.index(b"\n") + 1
    _, arrays = read_nqx(FOLDER / "nequix-oam-1.nqx")
    longest = first + sum(4 * array.numel() + 128 for array in arrays)
    config = json.loads(content[:first])
    elsewhere = json.dumps(config | {"lmax": 2}).encode() + b"\n" + content[first:]
    endless = content[:first] + content[first:].replace(arrays[0].numpy().tobytes(), b"\xff" * 4 * 89)
    shorter = json.dumps(config | {"atomic_numbers": [1, 2, 3]}).encode() + b"\n" + content[first:]
    cases = {
        "lmax": elsewhere,
        "finite": endless,
        "is damaged": shorter,
        "atomic numbers": b"{}\n" + content[first:],
        "no configuration": b"[1]\n",
        "magic string": content[:first] + pickle.dumps({"weights": 1}),
    }
    for message, damaged in cases.items():
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=message):
            load_nequix(path, "damaged")
    for size in (0, 100, first, first + 3, first + 100, first + 400, longest // 2, longest - 1):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="is damaged"):
            load_nequix(path, "damaged")
    path.write_bytes(content[:longest])
    assert load_nequix(path, "whole").name == "whole"


def test_radial_table_is_the_network() -> None:
    """Values to 1e-5 of the largest beyond 0.7 Å, and slopes of the table by finite differences."""
    _, arrays = read_nqx(FOLDER / "nequix-oam-1.nqx")
    network = [w.double() for w in arrays[14:17]]  # of the second layer
    table = RadialTable([network], cutoff=6.0, n_basis=8, power=6.0)
    r = torch.linspace(0.7, 6.0, 400, dtype=torch.float64)
    silu = torch.nn.functional.silu
    expected = silu(silu(radial_basis(r, 6.0, 8, 6.0) @ network[0]) @ network[1]) @ network[2]
    torch.testing.assert_close(
        table(r) @ table.mix[0], expected, rtol=0, atol=1e-5 * float(expected.abs().max())
    )
    assert table(torch.tensor([6.0, 6.5], dtype=torch.float64)).abs().max() < 1e-12
    r = (r[1:-1] + 1e-4).requires_grad_()
    (slope,) = torch.autograd.grad(table(r).sum(), r)
    step = 1e-6
    with torch.no_grad():
        difference = (table(r + step) - table(r - step)).sum(1) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-4, atol=1e-3)


def test_harmonics_turn_with_their_matrices() -> None:
    rng = torch.Generator().manual_seed(2)
    vectors = torch.nn.functional.normalize(torch.randn(50, 3, generator=rng, dtype=torch.float64), dim=1)
    rotations = torch.linalg.qr(torch.randn(6, 3, 3, generator=rng, dtype=torch.float64)).Q
    rotations[::2] *= -1.0  # proper and improper ones
    y, matrices = spherical_harmonics(vectors), rotation_matrices(rotations)
    for ell in range(L_MAX + 1):
        block = slice(ell * ell, (ell + 1) ** 2)
        turned = spherical_harmonics(vectors @ rotations)[..., block]
        torch.testing.assert_close(y[:, block] @ matrices[ell], turned)
        torch.testing.assert_close(y[:, block].square().sum(1), torch.full((50,), 2.0 * ell + 1).double())


def test_couplings_turn_with_what_they_couple() -> None:
    rotation = torch.linalg.qr(torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(3)).double()).Q
    d = [matrix[0].numpy() for matrix in rotation_matrices(rotation)]
    for l1, l2, l3 in ((1, 1, 2), (1, 2, 3), (2, 2, 2), (3, 3, 0), (3, 2, 1), (3, 3, 2)):
        c = coupling(l1, l2, l3)
        np.testing.assert_allclose((c**2).sum(), 2 * l3 + 1)
        turned = np.einsum("ia,jb,abc->ijc", d[l1], d[l2], c)
        np.testing.assert_allclose(turned, np.einsum("ijk,kc->ijc", c, d[l3]), atol=1e-10)
