"""The potentials that are known by name: what they are, where their files lie, how they get here."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from csp.download import fetch
from csp.errors import InputError, MissingError

__all__ = ["ELEMENTS", "KNOWN", "NEQUIX", "PUBLISHED", "Published", "download", "files", "hashes"]

ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))  # Po-Ra are in none of their training data
CHGNET_WEIGHTS = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"  # in the package chgnet 0.4
CHGNET_SHA256 = "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1"
NEQUIX = {  # sha256 of the files
    "nequix-oam-1": "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c",
    "nequix-oam-1-pft": "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
}
NEQUIX_COMMIT = "9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28"
NEQUIX_URL = f"https://github.com/atomicarchitects/nequix/raw/{NEQUIX_COMMIT}/models"
# Environment variables
MODELS = "CSP_MODELS"  # folders with the files of potentials, as PATH lists them
MODELS_URL = "CSP_MODELS_URL"  # where Nequix's files are downloaded from, in place of NEQUIX_URL: a mirror
MATGL_FILES = ("model.json", "model.pt", "state.pt")
MATGL_CACHE = Path.home() / ".cache" / "matgl"  # matgl.config's, whose import takes seconds
MATGL_ORGANISATION = "materialyze"  # matgl.utils.io.HF_MATGL_ORG


@dataclass(frozen=True, slots=True)
class Published:
    """A potential, as far as it can be described without its files."""

    name: str
    functional: str
    correction: str
    licence: str
    reference: str
    elements: frozenset[int] = ELEMENTS


PUBLISHED = {
    potential.name: potential
    for potential in (
        Published(
            "chgnet",
            "PBE+U",
            "MP2020",
            "BSD-3-Clause",
            "CHGNet 0.3.0: Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        ),
        *(
            Published(
                name,
                "PBE+U",
                "none",
                "MIT",
                "Nequix on OMat24, sAlex and MPtrj: Koker et al., arXiv:2508.16067" + phonons,
            )
            for name, phonons in zip(NEQUIX, ("", "; on phonons of MDR: arXiv:2601.07742"), strict=True)
        ),
        *(
            Published(
                f"TensorNet-PES-MatPES-{functional}-2025.2",
                functional,
                "none",
                "BSD-3-Clause",  # matgl's; the pages of the weights name none
                "TensorNet of matgl on MatPES 2025.2: Ko et al., arXiv:2503.03837; Kaplan et al., "
                "arXiv:2503.04070",
            )
            for functional in ("PBE", "r2SCAN")
        ),
    )
}
"""By name."""

KNOWN = f"Known: {', '.join(PUBLISHED)}, or the folder of a potential of matgl"


def files(name_or_path: str | Path) -> list[Path]:
    """The files of a potential on this machine, the weights last.

    Raises:
        InputError: The name means nothing, or the folder lacks one of the files.
        MissingError: The potential is not here.
    """
    name = str(name_or_path)
    if Path(name).is_dir():
        missing = [file for file in MATGL_FILES if not (Path(name) / file).is_file()]
        if missing:
            raise InputError(
                f"{name} is not the folder of a matgl potential: {', '.join(missing)} is not there."
            )
        return [Path(name) / file for file in MATGL_FILES]
    if name.lower() == "chgnet":
        package = importlib.util.find_spec("chgnet")
        path = Path(package.origin).parent / CHGNET_WEIGHTS if package and package.origin else None
        if path is None or not path.is_file():
            raise MissingError(
                f"CHGNet's weights are missing ({CHGNET_WEIGHTS}); install the package chgnet 0.4."
            )
        return [path]
    if name in NEQUIX:
        if path := _in_models(name):
            return [path]
        raise MissingError(
            f"{name} is not on this machine; csp models pull {name} fetches it, or {MODELS} can name the "
            f"folder that {name}.nqx is in."
        )
    paths = _cached(_repository(name))
    if not paths:
        raise MissingError(f"{name} is not on this machine; csp models pull {name} fetches it.")
    return paths


def download(name: str) -> list[Path]:
    """The files of a potential, fetched if need be: Nequix into the user's cache, one of matgl's from the hub
    into matgl's.

    Raises:
        InputError: The name means nothing.
        MissingError: It is not here and cannot be downloaded.
    """
    if name in NEQUIX:
        return [_in_models(name) or _fetch_nequix(name)]
    repository = _repository(name)
    if paths := _cached(repository):
        return paths
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # a line per vain attempt
    try:
        return [Path(hf_hub_download(repository, file, cache_dir=MATGL_CACHE)) for file in MATGL_FILES]
    except (OSError, HfHubHTTPError) as error:
        raise MissingError(
            f"{name} is not on this machine and cannot be downloaded; name a folder, or use chgnet."
        ) from error


def hashes(name_or_path: str | Path) -> tuple[str, str | None]:
    """sha256 of a potential's weights, and the published one if it is known.

    Those of CHGNet and Nequix are in this file, a download bears it as its name in the hub's cache.

    Raises:
        InputError, MissingError: As `files` does.
    """
    weights = files(name_or_path)[-1]
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if str(name_or_path).lower() == "chgnet":
        return found, CHGNET_SHA256
    if name_or_path in NEQUIX:
        return found, NEQUIX[str(name_or_path)]
    blob = weights.resolve().name
    return found, blob if len(blob) == len(found) else None


def _in_models(name: str) -> Path | None:
    """NAME.nqx in one of the folders of CSP_MODELS, in a folder NAME or nequix-oam-1 of one, or in the user's
    cache; None if it is nowhere."""
    for folder in (*os.environ.get(MODELS, "").split(os.pathsep), str(_cache())):
        for place in ("", name, "nequix-oam-1"):
            path = Path(folder, place, f"{name}.nqx")
            if folder and path.is_file():
                return path
    return None


def _fetch_nequix(name: str) -> Path:
    url = os.environ.get(MODELS_URL) or NEQUIX_URL
    return fetch(f"{url.rstrip('/')}/{name}.nqx", _cache() / f"{name}.nqx", NEQUIX[name])


def _cache() -> Path:
    """Where potentials that were downloaded are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("csp-engine") / "models"


def _repository(name: str) -> str:
    if name not in PUBLISHED:
        raise InputError(f"There is no potential {name!r}. {KNOWN}.")
    return f"{MATGL_ORGANISATION}/{name}"


def _cached(repository: str) -> list[Path]:
    """All files of a repository of the hub from matgl's cache, or none."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository, file, cache_dir=MATGL_CACHE) for file in MATGL_FILES]
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths if len(paths) == len(MATGL_FILES) else []
