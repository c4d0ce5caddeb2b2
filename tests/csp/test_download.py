"""Downloads from a real server on this machine that breaks off, lies, dawdles or is not there."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from csp.download import fetch, offline
from csp.errors import MissingError
from surrogates import zoo
from surrogates.potentials import catalogue
from tests.places import SHARED, needs

CONTENT = bytes(range(256)) * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()
NEQUIX = SHARED / "models" / "nequix-oam-1"


class Handler(BaseHTTPRequestHandler):
    """/whole, /half (breaks off), /other (another file), /slow (a byte now and then), /nequix-….nqx."""

    def do_GET(self) -> None:
        what = self.path.rsplit("/", 1)[-1]
        if what == "gone":
            self.send_error(404)
            return
        content = CONTENT
        if what.endswith(".nqx"):
            content = (NEQUIX / what).read_bytes()
        if what == "other":
            content = CONTENT[::-1]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if what == "slow":
            for k in range(100):
                self.wfile.write(content[k : k + 1])
                time.sleep(0.05)
        self.wfile.write(content[: len(content) // 2] if what == "half" else content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("CSP_OFFLINE")
    with serving() as url:
        yield url


def test_a_whole_file_with_the_right_hash_is_kept(server: str, tmp_path: Path) -> None:
    path = fetch(f"{server}/whole", tmp_path / "deep" / "file", HASH)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("half", "whole cannot be downloaded|half cannot be downloaded"),
        ("other", "hash differs"),
        ("slow", "not enough"),
        ("gone", "Not Found"),
    ],
)
def test_nothing_is_kept_of_what_is_not_it(server: str, tmp_path: Path, what: str, says: str) -> None:
    with pytest.raises(MissingError, match=says) as refused:
        fetch(f"{server}/{what}", tmp_path / "file", HASH, longest=0.3)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_no_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CSP_OFFLINE")
    with serving() as url:
        pass  # nothing listens there any more
    with pytest.raises(MissingError, match="cannot be downloaded"):
        fetch(f"{url}/whole", tmp_path / "file", HASH, wait=2)


def test_offline_asks_nobody(tmp_path: Path) -> None:
    """As it is set for all tests; the address would answer."""
    assert offline()
    with serving() as url, pytest.raises(MissingError, match="CSP_OFFLINE forbids"):
        fetch(f"{url}/whole", tmp_path / "file", HASH)


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no potential has been downloaded yet; where its cache is."""
    monkeypatch.delenv("CSP_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "csp-engine" / "models"


@needs(NEQUIX)
def test_auto_is_nequix_once_it_can_be_had(
    server: str, no_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSP_MODELS_URL", f"{server}/models")
    name, why = zoo.choose_relaxer()
    assert name == "nequix-oam-1"
    assert str(no_models) in why
    assert catalogue.hashes(name)[0] == catalogue.NEQUIX[name]
    monkeypatch.setenv("CSP_OFFLINE", "1")  # it is here now
    assert zoo.choose_relaxer()[0] == name
    assert zoo.load_model("auto").name == name


def test_auto_is_chgnet_where_nothing_may_be_asked(no_models: Path) -> None:
    name, why = zoo.choose_relaxer()
    assert name == "chgnet"
    assert "CSP_OFFLINE" in why
    with pytest.raises(MissingError, match="nequix-oam-1"):
        zoo.load_model("nequix-oam-1")
    assert not no_models.exists()


def test_a_search_that_is_to_be_offline_fetches_no_potential(
    server: str, no_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSP_MODELS_URL", f"{server}/models")
    assert not offline()
    assert zoo.choose_relaxer(may_fetch=False)[0] == "chgnet"
    assert not no_models.exists()


@needs(NEQUIX)
def test_auto_takes_what_csp_models_has(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSP_MODELS", f"/nowhere:{NEQUIX.parent}")
    name, why = zoo.choose_relaxer()
    assert (name, str(NEQUIX) in why) == ("nequix-oam-1", True)
    assert zoo.load_model("auto").label.correction == "none"
