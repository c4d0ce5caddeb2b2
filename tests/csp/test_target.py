"""What is asked for, and what is refused in one sentence."""

import pytest

from csp.errors import InputError
from csp.settings import SearchSettings
from csp.target import Target


@pytest.mark.parametrize(
    ("text", "formula", "numbers", "counts"),
    [
        ("SrTiO3", "SrTiO3", (38, 22, 8), (1, 1, 3)),
        ("O3 Ti Sr", "SrTiO3", (38, 22, 8), (1, 1, 3)),
        ("Ba(FeAs)2", "BaFe2As2", (56, 26, 33), (1, 2, 2)),
        ("Ca2C2O6", "CaCO3", (20, 6, 8), (1, 1, 3)),
        ("Si8", "Si", (14,), (1,)),
        ("Li0.5CoO2", "LiCo2O4", (3, 27, 8), (1, 2, 4)),
        ("H2O2", "HO", (1, 8), (1, 1)),
        ("[Co(NH3)6]Cl3", "CoH18N6Cl3", (27, 1, 7, 17), (1, 18, 6, 3)),
        ("Ca14MnSb11", "Ca14MnSb11", (20, 25, 51), (14, 1, 11)),
    ],
)
def test_formulas(text: str, formula: str, numbers: tuple[int, ...], counts: tuple[int, ...]) -> None:
    target = Target.parse(text)
    assert (target.formula, target.numbers, target.counts) == (formula, numbers, counts)
    assert target.n_atoms == sum(target.counts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("Xx2O", "no element Xx"),
        ("Sr(Ti", "bracket"),
        ("SrTiO3.5x", "not a chemical formula"),
        ("srtio3", "not a chemical formula"),
        ("Fe0", "did you mean FeO"),
        ("Li0.3337CoO2", "whole"),
    ],
)
def test_refusals(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Target.parse(text)
    assert str(caught.value).count(". ") == 0, "one sentence"


def test_too_many_atoms() -> None:
    with pytest.raises(InputError, match="`max_atoms`"):
        Target.parse("Ca14MnSb11", max_atoms=20)
    with pytest.raises(InputError, match="`z`"):
        Target.parse("SrTiO3", z=21, max_atoms=100)


def test_formula_units() -> None:
    assert list(Target.parse("SrTiO3", max_atoms=20).formula_units) == [1, 2, 3, 4]
    assert list(Target.parse("SrTiO3", z=2).formula_units) == [2]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"formula": "Xx2O"}, "no element Xx"),
        ({"formula": ""}, "empty"),
        ({"formula": "Si", "candidates": 0}, "^candidates: "),
        ({"formula": "Si", "generators": "foo"}, "template, metric_learning, space_group, random"),
        ({"formula": "Si", "generators": ""}, "^generators: "),
        ({"formula": "Si", "space_groups": "62,231"}, "^space_groups: "),
        ({"formula": "Si", "crystal_systems": "cubic,rhombohedral"}, "no crystal system 'rhombohedral'"),
        ({"formula": "Si", "pressure": "high"}, "^pressure: "),
    ],
)
def test_settings_refuse(values: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        SearchSettings.read(**values).target()


def test_settings_read_lists_and_give_targets() -> None:
    settings = SearchSettings.read(
        formula="SrTiO3", space_groups="221, 62", exclude_space_groups="62", generators="template"
    )
    assert settings.generators == ("template",)
    assert settings.target().space_groups == {221}
    assert SearchSettings.read(formula="Si").target().space_groups is None
    with pytest.raises(InputError, match="space group"):
        SearchSettings.read(formula="Si", space_groups="62", exclude_space_groups="62").target()
    assert SearchSettings.read(**settings.model_dump(mode="json")) == settings
    cubic = SearchSettings.read(formula="Si", crystal_systems="cubic,triclinic", exclude_space_groups="1")
    assert cubic.target().space_groups == {2, *range(195, 231)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NH3", "NH3"),
        ("ClNa", "ClNa"),
        ("Si8", "Si"),
        ("Ba(FeAs)2", "BaFe2As2"),
        ("Na Cl", "NaCl"),
        ("../Si", ""),
    ],
)
def test_folders_are_named_as_it_was_asked_for(text: str, name: str) -> None:
    if name:
        assert Target.parse(text).name == name
    else:
        with pytest.raises(InputError):
            Target.parse(text)
