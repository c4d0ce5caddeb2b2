"""The flow: a plain function without a server, and the same run on Prefect's own."""

from pathlib import Path

import pytest

from csp.settings import SearchSettings
from flows.predict import predict

SETTINGS = SearchSettings.read(
    formula="NaCl", candidates=12, screened=4, relaxed=2, rattled=0, max_steps=2, max_atoms=4
)


def test_plain_call_needs_no_server(tmp_path: Path) -> None:
    result = predict.fn(SETTINGS, tmp_path / "run")
    assert result["funnel"]["relaxed"] == 2
    assert (tmp_path / "run" / "ranked.json").is_file()


@pytest.mark.slow
def test_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks, state and the table artifact on a real server of its own."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        result = predict(SETTINGS, tmp_path / "run")
        with get_client(sync_client=True) as client:
            tasks = client.read_task_runs()
            artifacts = client.read_artifacts()
    assert sorted(t.name for t in tasks) == sorted(["propose", "screen", "relax", "rattle", "rank"])
    assert all(t.state is not None and t.state.is_completed() for t in tasks)
    assert any(a.key == "ranking-nacl" for a in artifacts)
    assert result == predict.fn(SETTINGS, tmp_path / "run")
