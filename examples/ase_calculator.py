"""The engine's models in ASE, and ASE's in the engine. Run it: python examples/ase_calculator.py"""

# --8<-- [start:calculator]
from ase.build import bulk
from ase.optimize import BFGS

import csp

atoms = bulk("GaAs", "zincblende", a=5.7)
atoms.rattle(0.05, seed=1)
atoms.calc = csp.load_model("xs").as_ase()
BFGS(atoms, logfile=None).run(fmax=0.05, steps=50)
print(f"{atoms.get_potential_energy() / len(atoms):.3f} eV/atom")
# --8<-- [end:calculator]

# --8<-- [start:from_ase]
from ase.calculators.emt import EMT  # noqa: E402

copper = csp.load_model(
    EMT(), name="emt", functional="EMT", elements=["Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Al"]
)
relaxed = csp.relax(bulk("Cu", "fcc", a=3.7), model=copper)
print(relaxed)
# --8<-- [end:from_ase]
