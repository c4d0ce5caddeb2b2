"""Stopping the program: Ctrl-C by a person, SIGTERM by the system or a scheduler."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from csp.errors import CspError

__all__ = ["StoppedError", "Terminated", "stopped_in_one_line", "terminated_as_interrupted"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it is to end the work as Ctrl-C does."""


class StoppedError(CspError):
    """The program was stopped; the exit code says by which signal."""

    def __init__(self, message: str, by: KeyboardInterrupt) -> None:
        super().__init__(message)
        self.exit_code = 128 + (signal.SIGTERM if isinstance(by, Terminated) else signal.SIGINT)


@contextmanager
def stopped_in_one_line() -> Iterator[None]:
    """Within the block Ctrl-C is a StoppedError."""
    try:
        yield
    except KeyboardInterrupt as ending:
        raise StoppedError("Interrupted.", ending) from ending


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated; only for the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
