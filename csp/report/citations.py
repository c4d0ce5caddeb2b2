"""What to cite for the parts that a search used."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["citations"]

MATERIALS_PROJECT = "Materials Project: A. Jain et al., APL Mater. 1, 011002 (2013)."
CITED: dict[str, tuple[str, ...]] = {
    "engine": (
        "pymatgen: S. P. Ong et al., Comput. Mater. Sci. 68, 314 (2013).",
        "spglib: A. Togo et al., Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024).",
    ),
    "phonons": (
        "phonopy: A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023).",
        "seekpath: Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017).",
    ),
    "ours": (
        MATERIALS_PROJECT,
        "Formation energies of the Materials Project of 2018: C. Chen et al., Chem. Mater. 31, 3564 (2019).",
    ),
    "chgnet": ("CHGNet: B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023).",),
    "nequix": (
        "Nequix: T. Koker et al., arXiv:2508.16067 (2025).",
        "OMat24: L. Barroso-Luque et al., arXiv:2410.12771 (2024).",
    ),
    "MatPES": ("MatPES: A. D. Kaplan et al., arXiv:2503.04070 (2025).",),
    "TensorNet": ("TensorNet: G. Simeon and G. De Fabritiis, Adv. Neural Inf. Process. Syst. 36 (2023).",),
    "Materials Project": (MATERIALS_PROJECT,),
    "Alexandria": ("Alexandria: J. Schmidt et al., Mater. Today Phys. 48, 101560 (2024).",),
    "Open Quantum": ("OQMD: S. Kirklin et al., npj Comput. Mater. 1, 15010 (2015).",),
    "Crystallography Open": ("COD: S. Gražulis et al., Nucleic Acids Res. 40, D420 (2012).",),
    "JARVIS": ("JARVIS: K. Choudhary et al., npj Comput. Mater. 6, 173 (2020).",),
    "AFLOW": (
        "AFLOW prototypes: M. J. Mehl et al., Comput. Mater. Sci. 136, S1 (2017); D. Hicks et al., "
        "Comput. Mater. Sci. 161, S1 (2019); D. Hicks et al., Comput. Mater. Sci. 199, 110450 (2021); "
        "H. Eckert et al., Comput. Mater. Sci. 240, 112988 (2024).",
    ),
    "gpaw": ("GPAW: J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024).",),
    "vasp": ("VASP: G. Kresse and J. Furthmüller, Phys. Rev. B 54, 11169 (1996).",),
    "espresso": ("Quantum ESPRESSO: P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017).",),
}
"""By a word in the name of a part: a model, a labeller, the source of a library."""


def citations(parts: Iterable[str]) -> tuple[str, ...]:
    """Each once, in the order of the parts; nothing for what is not known."""
    cited = (text for part in parts for word, texts in CITED.items() if word in part for text in texts)
    return tuple(dict.fromkeys(cited))
