"""Formulas and symbols as printed."""

import pytest

from csp.report.description import Shell
from csp.report.words import neighbours, printed_formula, printed_space_group, wyckoff_summary


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


def test_neighbours_of_one_element_are_one_entry() -> None:
    shells = [Shell("O", 2, 1.95, 1.951), Shell("O", 4, 2.1, 2.13), Shell("F", 1, 1.9, 1.9)]
    assert neighbours(shells) == "6 O 1.95–2.13, 1 F 1.90"
