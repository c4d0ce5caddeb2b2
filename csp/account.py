"""Who runs the engine may be no one that the system knows: a number in a container, without a home.

It imports nothing that is slow to import.
"""

from __future__ import annotations

import os

__all__ = ["have_a_home"]


def have_a_home() -> None:
    """Where there is neither $HOME nor an account with one, a temporary folder takes its place, as is said.

    Many packages keep something at home, and some of them do not start without.
    """
    if os.path.expanduser("~") != "~":
        return
    import logging
    import tempfile
    from pathlib import Path

    home = Path(tempfile.gettempdir()) / f"csp-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid() or home.is_symlink():  # somebody else's
        home = Path(tempfile.mkdtemp(prefix="csp-"))
    os.environ["HOME"] = str(home)
    logging.getLogger(__name__).warning("This account has no home: what is kept goes to %s; set HOME.", home)
