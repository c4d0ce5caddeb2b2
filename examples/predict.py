"""Predict the crystals of a formula, and look at what was found. Run it: python examples/predict.py"""

# --8<-- [start:predict]
import csp

found = csp.predict(
    "GaAs",
    out=None,  # a folder keeps the results and lets an interrupted search go on
    # Small numbers, so that this takes seconds. Leave them out for a real search.
    candidates=30,
    screened=60,
    relaxed=12,
    refined=4,
    rattled=0,
    max_steps=20,
)
# --8<-- [end:predict]

# --8<-- [start:look]
print(found)  # the ranking as a table

best = found[0]
print(best.structure)  # pymatgen; best.atoms is the same for ASE
print(f"{best.space_group}, {best.energy_per_atom:.3f} eV/atom, {best.volume_per_atom:.1f} Å³/atom")
if best.probability is not None:
    print(f"It is the ground state with a probability of {best.probability:.0%}.")

for crystal in found[:3]:
    print(crystal.rank, crystal.space_group, f"{1000 * crystal.above_lowest:.0f} meV/atom above the lowest")
# --8<-- [end:look]

# --8<-- [start:table]
table = found.to_frame()
print(table[["spacegroup", "above_lowest_ev_per_atom", "probability"]].head())  # the index is the rank
# --8<-- [end:table]

for warning in found.warnings:
    print("note:", warning)
