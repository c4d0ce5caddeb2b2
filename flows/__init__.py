"""Prefect flows. Workers, servers and Dask workers import this first, so it says here how threads wait."""

from csp.threads import wait_asleep

wait_asleep()
