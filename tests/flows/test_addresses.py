"""How a server is called, and what a home keeps of it."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from csp.errors import InputError, MissingError
from flows.addresses import family, local_url, own_names, public_url, shown_url
from flows.home import Up, made_home, opening, password, reach, token
from flows.up import warning


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and an environment that tests may spoil."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CSP_", "PREFECT"))}
    monkeypatch.setattr(os, "environ", {**kept, "CSP_HOME": str(tmp_path)})
    return tmp_path


def test_processes_of_the_machine_call_it_by_loopback() -> None:
    assert local_url("0.0.0.0", 4200) == local_url("127.0.0.1", 4200) == "http://127.0.0.1:4200"
    assert local_url("::", 4200) == local_url("::1", 4200) == "http://[::1]:4200"
    assert local_url("10.1.2.3", 80) == "http://10.1.2.3:80"
    assert (family("::1"), family("localhost")) == (socket.AF_INET6, socket.AF_INET)


def test_what_is_announced_can_be_opened_elsewhere() -> None:
    """A number that this machine has, or its name where it is in no network."""
    assert shown_url("127.0.0.1", 4200) == "http://127.0.0.1:4200"
    shown = shown_url("0.0.0.0", 4200).removeprefix("http://").removesuffix(":4200")
    if shown != socket.gethostname():
        assert not ipaddress.ip_address(shown).is_loopback
        with socket.socket() as probe:
            probe.bind((shown, 0))  # only what is one's own can be bound
    os.environ["CSP_URL"] = "https://csp.example.org/"
    assert shown_url("0.0.0.0", 4200) == "https://csp.example.org"
    assert socket.gethostname().lower() in own_names("0.0.0.0")


@pytest.mark.parametrize(
    "wrong", ["csp.example.org", "ftp://x", "https://x/csp", "https://a@x", "https://x:y", "https://", "x"]
)
def test_what_is_no_address_is_refused(wrong: str) -> None:
    os.environ["CSP_URL"] = wrong
    with pytest.raises(InputError, match=r"public_url: .*write https://csp\.example\.org"):
        public_url()


def test_who_lets_others_in_without_tls_is_warned() -> None:
    assert warning("127.0.0.1") == ""
    assert "TLS" in warning("0.0.0.0")
    os.environ["CSP_URL"] = "https://csp.example.org"
    assert warning("0.0.0.0") == ""


def test_the_token_is_kept_and_its_owner_alone_reads_it(home: Path) -> None:
    assert token() is None
    made = token(make=True)
    assert made is not None
    assert made.startswith("csp:")
    (home / "token").chmod(0o644)
    assert token(make=True) == token() == made
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600


def test_a_home_that_is_made_is_its_owners_alone(home: Path) -> None:
    os.environ["CSP_HOME"] = str(home / "a" / "b")
    assert stat.S_IMODE(made_home().stat().st_mode) == 0o700
    made_home().chmod(0o750)  # as its owner wants it
    assert stat.S_IMODE(made_home().stat().st_mode) == 0o750


def test_the_token_is_shown_to_a_terminal_alone(home: Path) -> None:
    made = token(make=True)
    assert opening("http://x", True) == f"http://x/login#{made}"
    assert str(made) not in opening("http://x", False)
    os.environ["CSP_AUTH"] = "ann:secret"
    assert opening("http://x", True) == "http://x"


@pytest.mark.parametrize("wrong", ["ann", ":x", "ann:", "ann:é", "ann:a\tb"])
def test_what_is_no_password_is_refused_unseen(wrong: str) -> None:
    os.environ["CSP_AUTH"] = wrong
    with pytest.raises(
        InputError, match=r"^\$CSP_AUTH (is not name:password|may hold ASCII [a-z, ]+ only)\.$"
    ):
        password()


def test_which_server_is_asked_and_with_what(home: Path) -> None:
    with pytest.raises(MissingError, match="CSP_URL"):
        reach()
    (home / "up.json").write_text("{")  # of a machine that lost power
    assert Up.read() is None
    (home / "up.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "files": "of 0.1", "pid": 1}))
    made, asked, usual = token(make=True), [], dict(os.environ)
    for environment in (
        {},
        {"CSP_URL": "https://csp.example.org"},
        {"CSP_URL": "https://csp.example.org", "CSP_AUTH": "ann:secret"},
        {"CSP_URL": "https://csp.example.org", "PREFECT_API_URL": "http://other/api"},
    ):
        os.environ.clear()
        os.environ.update(usual | environment)
        asked.append((reach(), os.environ["PREFECT_API_URL"], os.environ.get("PREFECT_API_AUTH_STRING")))
    public = ("https://csp.example.org", "https://csp.example.org/api")
    assert asked == [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/api", made),
        (*public, None),  # our token is nobody else's business
        (*public, "ann:secret"),
        ("http://other", "http://other/api", None),
    ]
