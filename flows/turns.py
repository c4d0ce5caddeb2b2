"""One GPU, many runs: what computes on it takes turns, whichever worker of whichever server's it is.

A turn is a slot of a Prefect concurrency limit named after the GPU. It is made with one slot when first
needed; people may give it more, on the page "Concurrency" of the server. CPUs are shared by the operating
system.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectAlreadyExists

if TYPE_CHECKING:
    import torch

__all__ = ["one_at_a_time", "turn"]

GIVEN_BACK = 60.0  # seconds after which a killed process' turn is over, the least that Prefect allows


@contextmanager
def turn(device: torch.device) -> Iterator[None]:
    """Wait until nothing else computes on the device, if it is a GPU and this is part of a run."""
    if device.type == "cpu" or not (TaskRunContext.get() or FlowRunContext.get()):
        yield
        return
    import torch

    card = torch.cuda.get_device_properties(device)
    with one_at_a_time(f"csp {card.name} {card.uuid}"):
        yield


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait for a slot of the limit of this name; a server that is away for a while ends no turn."""
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    with concurrency(name, lease_duration=GIVEN_BACK, strict=True, raise_on_lease_renewal_failure=False):
        yield
