"""What a run asks to be cited for."""

from pathlib import Path

import pytest

from csp.engine import build
from csp.report.citations import citations
from csp.settings import SearchSettings


def test_by_words_in_the_names_of_parts_each_once() -> None:
    cited = citations(["TensorNet-MatPES-PBE-v2025.1-PES", "chgnet", "chgnet", "a potential of one's own"])
    assert [text.split(":")[0] for text in cited] == ["MatPES", "TensorNet", "CHGNet"]


@pytest.mark.parametrize(("relaxer", "others"), [("chgnet", ["CHGNet"]), ("none", [])])
def test_of_a_run(relaxer: str, others: list[str], tmp_path: Path) -> None:
    settings = SearchSettings.read(formula="NaCl", relaxer=relaxer)
    _, record = build(settings, settings.target(), tmp_path)
    ours = ["Materials Project", "Formation energies of the Materials Project of 2018"]
    assert [text.split(":")[0] for text in record.citations] == [
        "pymatgen", "spglib", *ours, *others, "AFLOW prototypes",
    ]  # fmt: skip
