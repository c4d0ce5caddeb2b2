"""One GPAW calculation, run by the Python that GPAW is installed for, in the folder of the calculation.

Reads input.json, writes result.json; imports nothing of this project. See `surrogates.dft.gpaw`.
"""

import json
import sys


def main() -> None:
    """Argument: 0 for the usual mixing of densities, 1 for the safer one."""
    from ase import Atoms
    from ase.parallel import world
    from gpaw import GPAW, PW, FermiDirac, Mixer, MixerSum
    from gpaw import __version__ as version

    with open("input.json") as file:
        given = json.load(file)
    atoms = Atoms(
        numbers=given["numbers"],
        cell=given["cell"],
        scaled_positions=given["frac"],
        pbc=True,
        magmoms=given["magmoms"],
    )
    options = {}
    if sys.argv[1] == "1":
        options["mixer"] = (MixerSum if given["magmoms"] else Mixer)(0.02, 5, 100.0)
    atoms.calc = GPAW(
        mode=PW(given["cutoff"]),
        xc=given["functional"],
        kpts={"size": given["kpts"], "gamma": True},
        symmetry={"symmorphic": False},  # glide planes and screw axes, too
        occupations=FermiDirac(given["width"]),
        maxiter=given["max_iterations"],
        txt="gpaw.txt",
        **options,
    )
    result = {"version": version, "kpts": given["kpts"]}
    result["energy"] = atoms.get_potential_energy()  # extrapolated to zero width
    result["forces"] = atoms.get_forces().tolist()
    if world.rank == 0:
        with open("result.json.part", "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
