"""Who may speak to the server, with an application behind the guard that tells what came through."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest

from flows.guard import LARGEST, Guard

PASSWORD = "ann:p@ss/w%rd:1"
OURS = "http://127.0.0.1:4200"


class Inside:
    """The application: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def inside() -> Inside:
    return Inside()


def ask(
    inside: Inside, method: str = "GET", path: str = "/api/runs", public: str = "", **more: Any
) -> httpx.Response:
    guard = Guard(inside, PASSWORD, {"server", "0.0.0.0"}, public)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url=more.pop("base", OURS)) as client:
            return await client.request(method, path, **more)

    return asyncio.run(call())


def basic(password: str = PASSWORD) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}


def logged_in(inside: Inside) -> dict[str, str]:
    """What a browser sends that has shown the password once."""
    answer = ask(inside, "POST", "/login?to=/runs", data={"password": PASSWORD}, headers={"origin": OURS})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    told = answer.headers["set-cookie"]
    assert "HttpOnly" in told
    assert "SameSite=Lax" in told
    assert "Secure" not in told
    return {"cookie": f'odd={{"a": 1}}; {told.split(";")[0]}'}


def test_who_knows_the_password_comes_in(inside: Inside) -> None:
    assert ask(inside, "POST", headers=basic()).text == "inside"
    assert ask(inside, headers=logged_in(inside)).text == "inside"
    assert dict(inside.asked[-1]["headers"])[b"authorization"].decode() == basic()["authorization"]


def test_pages_may_ask_this_server_alone(inside: Inside) -> None:
    assert ask(inside, headers=basic()).headers["content-security-policy"].startswith("connect-src 'self'")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("ann:p@ss"),
        basic("ann:é"),
        {"authorization": "Basic !"},
        {"authorization": PASSWORD},
        {"cookie": "csp-4200=; csp-None="},
        {"cookie": f"csp-4200={PASSWORD}"},
    ],
)
def test_who_does_not_know_it_stays_outside(inside: Inside, headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert ask(inside, method, headers=headers).status_code == 401
    assert not inside.asked


def test_only_what_probes_ask_is_open(inside: Inside) -> None:
    assert ask(inside, path="/api/health").text == "inside"
    assert ask(inside, "POST", "/api/health").status_code == 401
    assert ask(inside, path="/api/health/x").status_code == 401


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:5000", "http://127.0.0.1:4200.evil.example", "x", ""],
)
def test_pages_of_others_are_refused_whatever_they_know(inside: Inside, origin: str) -> None:
    """Browsers tell where a request that changes something comes from; a page cannot make them not to."""
    for method, known in [("POST", basic()), ("GET", basic()), ("OPTIONS", {}), ("POST", logged_in(inside))]:
        assert ask(inside, method, headers={**known, "origin": origin}).status_code == 403
    assert ask(inside, "POST", "/login", data={"password": PASSWORD}, headers={"origin": origin}).is_error
    assert not inside.asked


def test_a_cookie_alone_changes_nothing(inside: Inside) -> None:
    cookie = logged_in(inside)
    assert ask(inside, "POST", headers=cookie).status_code == 401
    assert ask(inside, "POST", headers={**cookie, "origin": OURS}).text == "inside"


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "x", "["]
)
def test_a_name_that_is_not_ours_is_refused(inside: Inside, name: str) -> None:
    """A page whose name is made to lead here (DNS rebinding) is of the same origin to a browser."""
    for host in (name, f"{name}:4200"):
        headers = {**basic(), "host": host, "origin": f"http://{host}"}
        assert ask(inside, headers=headers).status_code == 421
    assert not inside.asked


@pytest.mark.parametrize("name", ["localhost", "SERVER", "10.1.2.3", "[::1]", "127.0.0.1"])
def test_our_names_and_numbers_are_known(inside: Inside, name: str) -> None:
    headers = {**basic(), "host": f"{name}:4200", "origin": f"http://{name.lower()}:4200"}
    assert ask(inside, headers=headers).text == "inside"


@pytest.mark.parametrize("host", ["csp.example.org", "127.0.0.1:4200"])  # proxies hand on the name, or do not
def test_behind_a_proxy(inside: Inside, host: str) -> None:
    public = "https://csp.example.org"
    headers = {**basic(), "host": host, "origin": public}
    assert ask(inside, "POST", headers=headers, public=public).text == "inside"
    assert ask(inside, "POST", headers={**headers, "origin": "https://evil.example"}, public=public).is_error
    if host in public:
        told = ask(inside, "POST", "/login", public=public, data={"password": PASSWORD}, headers=headers)
        assert "; Secure" in told.headers["set-cookie"]


def test_a_person_is_asked_for_the_password_and_led_on(inside: Inside) -> None:
    page = {"accept": "text/html,*/*"}
    sent = ask(inside, path="/runs/flow-run/1?tab=Logs", headers=page)
    assert sent.status_code == 303
    form = ask(inside, path=sent.headers["location"])
    assert 'action="/login?to=%2Fruns%2Fflow-run%2F1%3Ftab%3DLogs"' in form.text
    wrong = ask(inside, "POST", sent.headers["location"], data={"password": "no"}, headers={"origin": OURS})
    assert (wrong.status_code, "That is not the password." in wrong.text) == (401, True)
    assert "set-cookie" not in wrong.headers
    right = ask(inside, "POST", sent.headers["location"], data={"password": PASSWORD})
    assert right.headers["location"] == "/runs/flow-run/1?tab=Logs"


@pytest.mark.parametrize(
    "to", ["//evil.example", "/\\evil.example", "https://evil.example", '/"><b>', "/\r\nx: y"]
)
def test_nobody_is_led_elsewhere(inside: Inside, to: str) -> None:
    page = ask(inside, path="/login", params={"to": to})
    assert "<b>" not in page.text
    told = ask(inside, "POST", "/login", params={"to": to}, data={"password": PASSWORD})
    location = told.headers["location"]
    assert "evil.example" not in location
    assert location.startswith("/")
    assert "x" not in told.headers


def test_requests_are_bounded(inside: Inside) -> None:
    async def endless() -> Any:
        for _ in range(LARGEST // 2**20 + 1):
            yield bytes(2**20)

    long = {**basic(), "content-length": str(LARGEST + 1)}
    assert ask(inside, "POST", headers=long, content=b"x").status_code == 413
    with pytest.raises(AssertionError):  # nobody answers: the connection is given up
        ask(inside, "POST", headers=basic(), content=endless())
    assert not inside.bodies
    assert ask(inside, "POST", headers=basic(), content=bytes(LARGEST)).text == "inside"


def test_websockets_of_other_pages_are_closed(inside: Inside) -> None:
    """What Prefect's clients open comes through; Prefect asks for the password in its first message."""

    async def open_socket(origin: str | None) -> list[str]:
        sent: list[str] = []
        headers = [(b"host", b"127.0.0.1:4200")] + ([(b"origin", origin.encode())] if origin else [])

        async def send(message: Any) -> None:
            sent.append(message["type"])

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/api/events/in", "headers": headers}
        await Guard(inside, PASSWORD, set())(scope, receive, send)
        return sent

    assert asyncio.run(open_socket("http://evil.example")) == ["websocket.close"]
    assert not inside.asked
    asyncio.run(open_socket(None))
    assert len(inside.asked) == 1
