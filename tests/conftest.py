"""For all tests: nothing calls out, and what was skipped for want of data is said once, at the end."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest

from tests.places import NOT_BESIDE

os.environ["CSP_OFFLINE"] = "1"
# what a script starts with & ignores Ctrl-C, as do the programs that the tests start and stop
signal.signal(signal.SIGINT, signal.default_int_handler)
# whoever runs the tests may have chosen a library, and learned models, of their own
os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="csp-tests-")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and NOT_BESIDE in report.longrepr[2]
    ]
    if skipped:
        places = sorted({report.longrepr[2].removeprefix("Skipped: ").split()[0] for report in skipped})
        terminalreporter.write_line(
            f"{len(skipped)} tests were skipped: the data they need are not beside the project"
            f" ({', '.join(places)}).",
            yellow=True,
        )
