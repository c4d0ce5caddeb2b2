"""The volume prior: recovery of a known law, and known crystals."""

from pathlib import Path

import pytest
import torch

from csp.library.library import Library
from csp.library.volume import VolumePrior, composition_volumes


def test_median_volumes_of_the_compositions() -> None:
    library = Library.open()
    numbers, counts, volumes = composition_volumes(library)
    silica = ((numbers * (counts > 0)).sort(1).values[:, -2:] == torch.tensor([8, 14])).all(1) & (
        counts.sum(1) == 3
    )
    rows = [
        r for r in library.rows((1, 2)).tolist() if set(library.crystals([r]).numbers.tolist()) == {8, 14}
    ]
    crystals = library.crystals(rows)
    per_unit = 3 * crystals.volumes / crystals.n_atoms
    assert len(rows) > 2
    assert volumes[silica].item() == pytest.approx(per_unit.sort().values[(len(rows) - 1) // 2].item())


def test_fit_recovers_additive_volumes() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.stack([torch.randperm(6, generator=generator)[:3] + 20 for _ in range(400)])
    counts = torch.randint(0, 4, (400, 3), generator=generator)
    counts[:, 0] += 1
    atomic = torch.tensor([10.0, 14.0, 20.0, 9.0, 30.0, 17.0], dtype=torch.float64)
    volumes = (atomic[numbers - 20] * counts).sum(1)
    prior = VolumePrior.fit(numbers, counts, volumes, steps=30)
    assert torch.allclose(prior.volumes(numbers, counts), volumes, rtol=0.01)
    assert prior.predict([20, 24], [2, 1]) == pytest.approx(50.0, rel=0.03)


def test_padding_scale_and_order() -> None:
    prior = VolumePrior.load()
    one = prior.predict([22, 8], [1, 2])
    assert prior.predict([8, 22], [2, 1]) == pytest.approx(one)
    assert prior.predict([22, 8], [3, 6]) == pytest.approx(3 * one)
    padded = prior.volumes(torch.tensor([[22, 8, 0], [38, 22, 8]]), torch.tensor([[1, 2, 0], [1, 1, 3]]))
    assert padded.tolist() == pytest.approx([one, prior.predict([38, 22, 8], [1, 1, 3])])


# experimental cells, Å³ per formula unit; rock salt, perovskite and the like
@pytest.mark.parametrize(
    ("numbers", "counts", "volume"),
    [
        ((11, 17), (1, 1), 44.85),
        ((12, 8), (1, 1), 18.67),
        ((38, 22, 8), (1, 1, 3), 59.56),
        ((31, 33), (1, 1), 45.17),
    ],
)
def test_known_crystals(numbers: tuple[int, ...], counts: tuple[int, ...], volume: float) -> None:
    assert VolumePrior.load().predict(numbers, counts) == pytest.approx(volume, rel=0.12)


def test_unknown_elements_fall_back_to_spheres() -> None:
    prior = VolumePrior.load()
    assert not prior.known[86]
    assert 5 < prior.predict([86], [1]) < 60
    assert 5 < prior.predict([110], [1]) < 60


def test_saved_and_loaded(tmp_path: Path) -> None:
    prior = VolumePrior.load()
    prior.save(tmp_path / "prior.json")
    again = VolumePrior.load(tmp_path / "prior.json")
    assert torch.equal(again.known, prior.known)
    assert torch.equal(again.response, prior.response)
    assert again.predict([56, 22, 8], [1, 1, 3]) == prior.predict([56, 22, 8], [1, 1, 3])


# experimental cells of the solids near their triple points, Å³ per atom
@pytest.mark.parametrize(("number", "volume"), [(10, 22.2), (18, 37.5), (36, 45.1)])
def test_atoms_that_only_touch(number: int, volume: float) -> None:
    prior = VolumePrior.load()
    assert not prior.known[number]
    assert prior.predict((number,), (1,)) == pytest.approx(volume, rel=0.12)
