"""What a model says of its errors, and its files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from csp.errors import InputError, MissingError
from surrogates import zoo
from surrogates.properties import library
from surrogates.properties.catalogue import backward, forward
from surrogates.properties.model import PropertyModel
from tests.surrogates.properties.tiny import card, crystals, model


def test_logarithms_there_and_back() -> None:
    value = torch.tensor([0.3, 1.0, 250.0], dtype=torch.float64)
    there = forward(value, "log10")
    back, sigma = backward(there, torch.full_like(there, 0.01), "log10")
    torch.testing.assert_close(back, value)
    torch.testing.assert_close(sigma, value * math.log(10) * 0.01)


def test_intervals_hold_the_value_and_widen_with_leverage() -> None:
    one = model()
    h = one.hidden(one.inputs(crystals()))
    near, far = one.from_hidden(h), one.from_hidden(30.0 * h)
    assert bool((near.low < near.value).all())
    assert bool((near.value < near.high).all())
    assert bool((far.sigma > near.sigma).all())
    assert bool((far.leverage > near.leverage).all())
    assert bool(far.outside.all())


def test_nothing_is_foretold_below_what_is_possible() -> None:
    one = model(lowest=0.0)
    shifted = one.last.weight.clone()
    shifted[-1] -= 100.0
    low = PropertyModel(
        one.card, one.encoder, type(one.last)(shifted, one.last.factor, 0.2, 1, 2, 1), one.surrogate
    )
    found = low.predict(crystals())
    assert found.value.tolist() == [0.0, 0.0]
    assert float(found.low.min()) == 0.0


def about(**changed: object) -> dict[str, object]:
    fields = {name: getattr(card(), name) for name in card().__dataclass_fields__}
    for name in ("name", "architecture", "sha256"):
        fields.pop(name)
    return {**fields, "surrogate": None, "surrogate_sha256": None, **changed}


def test_a_model_that_is_written_says_the_same_again(tmp_path: Path) -> None:
    one = model(composition=True)
    path = tmp_path / "hardness.safetensors"
    library.write(path, one.encoder, one.last, seen={1, 2}, **about())
    again = library.load(path)
    found, expected = again.predict(crystals()), one.predict(crystals())
    torch.testing.assert_close(found.value, expected.value, atol=0.02, rtol=0.01)  # half precision
    assert library.seen_compositions(path) == {1, 2}
    assert again.card.reads == "composition"


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    one = model(composition=True)
    path = tmp_path / "hardness.safetensors"
    library.write(path, one.encoder, one.last, seen=set(), **about())
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="not those of their card"):
        library.load(path)


def test_features_of_another_surrogate_are_refused(tmp_path: Path) -> None:
    one = model()
    path = tmp_path / "hardness.safetensors"
    other = about(surrogate="xs", surrogate_sha256="f" * 12)
    library.write(path, one.encoder, one.last, seen=set(), **other)
    with pytest.raises(InputError, match="which are not here; train it again"):
        library.load(path)


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "folders", lambda: (tmp_path, tmp_path))
    with pytest.raises(MissingError, match="nowhere"):
        library.find("nowhere.safetensors")
    with pytest.raises(InputError, match="no model of a property 'hardness'"):
        library.find("hardness")
