"""Formulas and symbols as printed."""

import pytest

from csp.report.description import Shell
from csp.report.words import (
    neighbours,
    printed_formula,
    printed_formulas,
    printed_space_group,
    type_name,
    wyckoff_summary,
)


@pytest.mark.parametrize(
    ("symbol", "printed"),
    [
        ("Pm-3m", "Pm3\u0305m"),
        ("P6_3/mmc", "P6₃/mmc"),
        ("P-1", "P1\u0305"),
        ("I4_1/a", "I4₁/a"),
        ("", "unknown"),
    ],
)
def test_space_groups(symbol: str, printed: str) -> None:
    assert printed_space_group(symbol) == printed


def test_formulas_and_sites() -> None:
    assert printed_formula("Ca10P6O26H2") == "Ca₁₀P₆O₂₆H₂"
    assert wyckoff_summary("Si:a " + "O:i " * 9 + "O:j") == "Si in a, 9 O in i, O in j"
    assert wyckoff_summary("") == ""


def test_formulas_in_a_text_and_nothing_else_that_has_digits() -> None:
    text = "0.5 P2S5 (mp-31213) + O2, NiSO4·6H2O and Fe2(SO4)3; by nequix-oam-1, MP2020: no TiO2."
    assert printed_formulas(text) == (
        "0.5 P₂S₅ (mp-31213) + O₂, NiSO₄·6H₂O and Fe₂(SO₄)₃; by nequix-oam-1, MP2020: no TiO₂."
    )
    for other in (
        "C2/m P6_3/mmc R3c 161 F-43m",
        "AB3C_hR10_148_c_f_c",
        "/data/TiO2/a SnO2_0p4.xy",
        "A" * 999,
    ):
        assert printed_formulas(other) == other


def test_types() -> None:
    assert type_name("AB3C_hR10_148_c_f_c (Ilmenite (FeTiO3, E22))") == "Ilmenite (FeTiO₃, E22)"
    assert type_name("AB2_hP3_187_a_h") == "AB2_hP3_187_a_h"


def test_neighbours_of_one_element_are_one_entry() -> None:
    shells = [Shell("O", 2, 1.95, 1.951), Shell("O", 4, 2.1, 2.13), Shell("F", 1, 1.9, 1.9)]
    assert neighbours(shells) == "6 O 1.95–2.13, 1 F 1.90"
