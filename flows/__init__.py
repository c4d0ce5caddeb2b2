"""Prefect flows. Workers, servers and Dask workers import this first, so it says here how threads wait.

Raises:
    MissingError: On import, where Prefect is not installed.
"""

from importlib.util import find_spec

from csp.errors import MissingError
from csp.threads import wait_asleep

if find_spec("prefect") is None:
    raise MissingError("This needs Prefect: pip install 'csp-engine[flows]'.")

wait_asleep()
