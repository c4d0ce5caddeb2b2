"""Errors that people can mend, of runs: a sentence in their place, and no traceback in the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import FailedRun
from prefect.states import Failed

from csp.errors import CspError

__all__ = ["says_why"]

P = ParamSpec("P")
T = TypeVar("T")
LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine", "prefect.flow_engine")


def says_why(work: Callable[P, T]) -> Callable[P, T]:
    """Have a flow fail with the sentence of an error of ours; called as a plain function, it raises it."""

    @wraps(work)
    def sentence_for_error(*args: P.args, **values: P.kwargs) -> T:
        try:
            return work(*args, **values)
        except CspError as error:
            if FlowRunContext.get() is None:
                raise
            get_run_logger().error("%s", error)
            return Failed(message=str(error))  # type: ignore[return-value]  # what Prefect takes for the state

    # Prefect reads types of parameters where the function that it is given was defined, which is here
    signature = inspect.signature(work, eval_str=True)
    sentence_for_error.__signature__ = signature  # type: ignore[attr-defined]
    sentence_for_error.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return sentence_for_error


class _Sentences(logging.Filter):
    """Prefect logs whatever a task raises with its traceback, and a run that failed once more as it ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CspError):
            record.exc_info = record.exc_text = None
        return not isinstance(error, FailedRun)


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_Sentences())
