"""Where the project's root is, and the data beside it that some tests are about."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["NOT_BESIDE", "ROOT", "SHARED", "needs"]

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
NOT_BESIDE = "is not beside the project"  # in the reason of a skipped test: conftest.py counts these


def needs(path: Path) -> pytest.MarkDecorator:
    """Skip where a file or folder of `SHARED` is not there."""
    return pytest.mark.skipif(not path.exists(), reason=f"{path.relative_to(ROOT.parent)} {NOT_BESIDE}")
