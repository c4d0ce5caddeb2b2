"""The encoders: padding, amounts, and models taken together."""

from __future__ import annotations

import torch

from csp.formula import read_formula
from surrogates.properties.library import together
from surrogates.properties.model import composition_input
from surrogates.properties.network import CompositionEncoder
from surrogates.properties.rows import composition_of
from tests.surrogates.properties.tiny import crystals, model


def test_compositions_do_not_depend_on_padding_or_on_company() -> None:
    torch.manual_seed(0)
    encoder = CompositionEncoder(width=8, layers=2, heads=2).eval()
    short = composition_of([read_formula("NaCl")])
    padded = composition_of([read_formula("NaCl"), read_formula("SrTiO3")])
    assert short.shape[1] == 2
    assert padded.shape[1] == 3
    torch.testing.assert_close(encoder(padded)[:, :1], encoder(short))


def test_compositions_do_not_depend_on_the_order_of_elements() -> None:
    torch.manual_seed(0)
    encoder = CompositionEncoder(width=8, layers=2, heads=2).eval()
    x = composition_of([read_formula("SrTiO3")])
    torch.testing.assert_close(encoder(x.flip(1)), encoder(x))


def test_amounts_count() -> None:
    torch.manual_seed(0)
    encoder = CompositionEncoder(width=8, layers=1, heads=2).eval()
    x = composition_of([read_formula("TiO2"), read_formula("Ti2O3")])
    assert not torch.allclose(encoder(x)[0, 0], encoder(x)[0, 1], atol=1e-3)


def test_a_crystal_and_its_formula_are_one_composition() -> None:
    found, expected = (
        composition_input(crystals()),
        composition_of([read_formula("NaCl"), read_formula("SrTiO3")]),
    )
    torch.testing.assert_close(found[..., 1], expected[..., 1])
    assert set(found[1, :, 0].tolist()) == {8.0, 22.0, 38.0}


def test_models_taken_together_have_the_features_of_each() -> None:
    first, other = model(seed=1), model(seed=2)
    other.encoder.spread *= 1.7  # features scaled otherwise
    other.encoder.centre += 0.3
    both = together([first, other])
    x = first.inputs(crystals())
    width = first.encoder.width
    h = both.hidden(x)
    torch.testing.assert_close(h[:, :width], first.hidden(x)[:, :width], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(h[:, width:], other.hidden(x)[:, :width], atol=1e-5, rtol=1e-5)


def test_models_taken_together_read_what_any_of_them_has_met() -> None:
    first, other = model(seed=1), model(seed=2)
    other.elements = other.elements - {11} | {79}
    assert together([first, other]).elements == first.elements | {79}
