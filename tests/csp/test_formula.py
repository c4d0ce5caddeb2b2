"""Formulas as people write them: understood, or refused with what was meant."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymatgen.core import Composition

from csp.errors import InputError
from csp.formula import read_formula


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        *((f"CaSO4{dot}2H2O", "CaS(H2O3)2") for dot in (".", "·", "•", "*", " ", " · ", "∙", "⋅")),
        ("CaSO4 · 2 H2O", "CaS(H2O3)2"),
        *(
            (f"CuSO4{dot}5H2O", "CuSO9H10")
            for dot in (". ", " .", " . ", " x ", "×", " × ", "‧", "⸱", "∘", "˙")
        ),
        ("CuSO4.5H2O", "CuSO9H10"),
        ("CuSO4.5 H2O", "CuSO9H10"),
        ("CaSO4·0.5H2O", "Ca2S2O9H2"),
        ("CaSO4 · 0.5 H2O", "Ca2S2O9H2"),
        ("CaSO4.0.5 H2O", "Ca2S2O9H2"),
        ("CaSO4·1.5H2O", "Ca2S2O11H6"),
        ("CaSO4.1.5H2O", "Ca2S2O11H6"),
        ("CaSO4 1.5H2O", "Ca2S2O11H6"),
        ("1.5H2O.NaCl", "H6O3Na2Cl2"),
        ("1.5Na2O.Al2O3", "Na6Al4O9"),
        ("CaSO4.0.5H2O", "Ca2S2O9H2"),
        ("CaSO4·½H2O", "Ca2S2O9H2"),
        ("CaSO4·1½H2O", "Ca2S2O11H6"),
        ("MgCl2.6H2O", "MgCl2O6H12"),
        ("Mg(OH)2.4(H2O)", "MgO6H10"),
        ("K4[Fe(CN)6].3H2O", "K4FeC6N6H6O3"),
        ("Na2[B4O5(OH)4]·8H2O", "Na2B4O17H20"),
        ("MgCl2.6NH4Cl", "MgCl8N6H24"),
        ("Al2O3.2SiO2.2H2O", "Al2Si2O9H4"),
        ("3CaO·Al2O3", "Ca3Al2O6"),
        ("{[Fe(CN)6]3[Fe4]}", "Fe7C18N18"),
        ("2H2O", "H2O"),
        ("SrTiO₃", "SrTiO3"),
        ("ＮａＣｌ", "NaCl"),
        ("Na\u200bCl\ufeff", "NaCl"),
        ("Fe 2 O 3", "Fe2O3"),
        ("K Al Si3 O8", "KAlSi3O8"),
        ("(Ba)(Fe As)2", "BaFe2As2"),
        ("D2O", "H2O"),
        ("LiT", "LiH"),
        ("Al0.3CoCrFeNi", "Al3Co10Cr10Fe10Ni10"),
        ("La1.85Sr0.15CuO4", "La37Sr3Cu20O80"),
        ("YBa2Cu3O6.5", "Y2Ba4Cu6O13"),
        ("Bi2.1Sr1.9CaCu2O8", "Bi21Sr19Ca10Cu20O80"),
    ],
)
def test_understood(text: str, same_as: str) -> None:
    assert Composition(dict(read_formula(text).counts)) == Composition(same_as)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SrTi03", "did you mean SrTiO3?"),
        ("NaCl0", "did you mean NaClO?"),
        ("srtio3", "did you mean SrTiO3?"),
        ("NACL", "did you mean NaCl?"),
        ("Fe2o3", "did you mean Fe2O3?"),
        ("NaCl(s)", "did you mean NaCl?"),
        ("FeCl3.6H20", "its water is a zero; did you mean FeCl3·6H2O?"),
        ("Na2CO3·10H20", "did you mean Na2CO3·10H2O?"),
        ("CaSO4 2H20", "did you mean CaSO4 2H2O?"),
        ("CaSO4-2H2O", "did you mean CaSO4·2H2O?"),
        ("CaSO4.nH2O", "n is no amount"),
        ("Na+Cl-", "no charge, so leave charges out; did you mean NaCl?"),
        ("Fe³⁺₂O₃", "did you mean Fe2O3?"),
        ("caco3", "did you mean CaCo3 or CaCO3?"),
        ("Fe_2O_3", "did you mean Fe2O3?"),
        ("H<sub>2</sub>O", "did you mean H2O?"),
        ("Fe(III)2O3", "did you mean Fe2O3?"),
        ("NH4+", "no charge"),
        ("Fe³⁺", "no charge"),
        ("SO4^2-", "no charge"),
        ("Fe1-xO", "1-x is no amount"),
        ("LixCoO2", "'x'"),
        ("Fe.9O", "digit before its point"),
        ("Fe 2O 3", "a number stands alone"),
        ("CuCl 2 H2O", "a number stands alone"),
        ("Ba-Ti-O", "'-'"),
        ("α-SiO2", "'α'"),
        ("[NaCl)", "bracket"),
        ("NaCl)", "bracket"),
        ("()", "nothing is in a bracket"),
        ("NaCl·", "beside a separator"),
        ("5", "nothing"),
        ("1/0Na", "1/0 is no amount"),
        ("Uue", "'e'"),
        ("co" * 90 + "q", "not a chemical formula"),
        ("Si" * 200, "at most 200"),
    ],
)
def test_refused_with_what_was_meant(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_formula(text)
    message = str(caught.value)
    assert says in message
    assert message.count(". ") == 0, "one sentence"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SrTiO3", ""),
        ("O3 Ti Sr", ""),
        ("Ba(FeAs)2", ""),
        ("Ga0.5As", "'Ga0.5As' is read as GaAs2: its amounts are made whole by the factor 2."),
        ("Si8", "'Si8' is read as Si: it holds 8 of these formula units."),
        ("CaSO4.2H2O", "'CaSO4.2H2O' is read as CaH4SO6: it is taken for CaSO4 · 2H2O."),
        ("H20", "with the letter O it would be H2O"),
        ("Fe203", "with the letter O it would be Fe2O3"),
        ("LiD", "D is hydrogen"),
        ("SIO2", "in other capitals it would be SiO2"),
        ("TIO2", "in other capitals it would be TiO2"),
        ("CUO", "in other capitals it would be CuO"),
        *((text, "") for text in ("CO2", "HF", "KOH", "K2CO3", "KHCO3", "KNO3", "H2CO3", "HNO3", "YB66")),
        ("CaCl2.6NaNO3", "an adduct has · in place of the dot"),
    ],
)
def test_a_changed_formula_is_said(text: str, says: str) -> None:
    change = read_formula(text).change
    assert says in change
    assert bool(says) == bool(change)


ELEMENTS = st.sampled_from(["H", "C", "O", "Na", "Si", "Co", "Cl", "Ba", "U"])
GROUPS = st.recursive(
    ELEMENTS,
    lambda inner: st.lists(st.tuples(inner, st.integers(1, 12)), min_size=1, max_size=3).map(
        lambda parts: "(" + "".join(f"{part}{n if n > 1 else ''}" for part, n in parts) + ")"
    ),
    max_leaves=6,
)


@example([("H", 1), ("O", 1)])
@given(st.lists(st.tuples(GROUPS, st.integers(1, 30)), min_size=1, max_size=5))
def test_brackets_as_pymatgen_reads_them(groups: list[tuple[str, int]]) -> None:
    text = "".join(f"{group}{n if n > 1 else ''}" for group, n in groups)[:200]
    if text.count("(") == text.count(")"):
        amounts = {element.symbol: int(n) for element, n in Composition(text).items()}
        shared = math.gcd(*amounts.values())  # pymatgen's own reduced formulas are not: H2O2, O2
        assert read_formula(text).counts == {symbol: n // shared for symbol, n in amounts.items()}
