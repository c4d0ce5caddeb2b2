"""The same searches in one process that nothing disturbs: what rankings should be, and what memory it takes.

    python -m flows.soak.undisturbed PLAN.json OUT

One process that does one search after the other is what a Dask worker and a Python session are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from csp.files import write_json
from flows.soak.processes import resident

__all__ = ["main"]


def main(plan: Path, out: Path) -> None:
    """Searches for all formulas into OUT/FORMULA, then again, into nowhere, until there were enough.

    Writes `memory.json`: MB after each search.
    """
    from csp.device import keep_freed_memory

    keep_freed_memory()
    from flows.form import Advanced
    from flows.predict import predict

    asked = json.loads(plan.read_text(encoding="utf-8"))
    common = asked["parameters"] | {"advanced": Advanced(**asked["parameters"]["advanced"])}
    common["generators"] = tuple(common["generators"])
    memory: list[float] = []
    for k in range(max(asked["searches"], len(asked["formulas"]))):
        formula, again = asked["formulas"][k % len(asked["formulas"])], k >= len(asked["formulas"])
        folder = out / ("again" if again else formula)
        predict.fn(formula, folder=folder, **common)
        if again:
            shutil.rmtree(folder)
        memory.append(round(resident(os.getpid()), 1))
        write_json(out / "memory.json", {"mb": memory})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
