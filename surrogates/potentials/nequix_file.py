"""Reading .nqx files: a line of JSON, then arrays in NumPy's format. Nothing in them is executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError, MissingError

__all__ = ["read_nqx"]

N_ARRAYS = 63  # float32; what may follow repeats numbers of the first line
CONFIG_AT_MOST = 1 << 20  # bytes

# What the published potentials share and `surrogates.potentials.nequix` relies on.
ARCHITECTURE = {
    "hidden_irreps": "128x0e + 64x1o + 32x2e + 32x3o",
    "lmax": 3,
    "n_layers": 4,
    "radial_mlp_layers": 2,
    "index_weights": False,
    "layer_norm": True,
}
NUMBERS = ("cutoff", "scale", "shift", "avg_n_neighbors", "radial_basis_size", "radial_polynomial_p")


def read_nqx(path: Path) -> tuple[dict[str, Any], list[Tensor]]:
    """The configuration and the 63 arrays of weights, float32.

    Raises:
        MissingError: There is no such file.
        InputError: It is damaged or holds another architecture.
    """
    try:
        with path.open("rb") as file:
            config = _config(file)
            arrays = [_array(file) for _ in range(N_ARRAYS)]
    except FileNotFoundError as error:
        raise MissingError(f"There is no model file {path}.") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"The model file {path} is damaged: {error}.") from error
    different = {name: config.get(name) for name, value in ARCHITECTURE.items() if config.get(name) != value}
    if different:
        raise InputError(f"The model file {path} cannot be used: a Nequix with {different} is not supported.")
    return config, arrays


def _config(file: BinaryIO) -> dict[str, Any]:
    config = json.loads(file.readline(CONFIG_AT_MOST))
    if not isinstance(config, dict):
        raise ValueError("its first line is no configuration")
    numbers = config.get("atomic_numbers")
    if not isinstance(numbers, list) or not all(isinstance(z, int) and 0 < z < 119 for z in numbers):
        raise ValueError("its configuration names no atomic numbers")
    unknown = [name for name in NUMBERS if not isinstance(config.get(name), (int, float))]
    if unknown:
        raise ValueError(f"its configuration gives no {', '.join(unknown)}")
    return config


def _array(file: BinaryIO) -> Tensor:
    # np.load would take anything that does not begin as an array for a pickle
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"it has an array of format {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.float32 or fortran or len(shape) > 2:
        raise ValueError(f"it has an array of {dtype} {list(shape)}")
    content = file.read(4 * int(np.prod(shape)))
    values = np.frombuffer(content, dtype=np.float32).reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError("it has weights that are not finite")
    return torch.from_numpy(values.copy())
