"""Crystal structure prediction from a chemical formula alone.

    import csp
    found = csp.predict("SrTiO3", library="mp_structures.parquet", relaxed=60)
    found[0].structure
    csp.relax(structures, model="chgnet", pressure=10)
    csp.load_model("xs").as_ase()

These names are all there is to know for work in Python; what they do is in `csp.face`. They are imported
when they are first used, so that `import csp` is quick and brings no PyTorch. Their types are in
`__init__.pyi`, for editors and type checkers.
"""

from importlib import import_module
from typing import Any

from csp.account import have_a_home
from csp.threads import one_thread_after_fork, wait_asleep

_PLACES = {
    "Crystals": "csp.crystals",
    "Library": "csp.library.library",
    "Prediction": "csp.search.prediction",
    "load_model": "csp.face.models",
    "predict": "csp.face.predict",
    "relax": "csp.face.relax",
}

__all__ = ["Crystals", "Library", "Prediction", "__version__", "errors", "load_model", "predict", "relax"]

have_a_home()
wait_asleep()
one_thread_after_fork()


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
    elif name == "errors":
        value = import_module("csp.errors")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("csp-engine")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # from now on without this function
    return value


def __dir__() -> list[str]:
    return list(__all__)
