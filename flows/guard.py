"""Who may speak to the server: an ASGI layer before Prefect's own.

A browser sends requests for any page that it has open, so that being on the same machine says nothing about
who asks. Three things are looked at, the name that the server is called by (against DNS rebinding), the page
that a request comes from (against cross-site requests), and what the caller knows: the password, or a cookie
that a browser gets for it. Prefect asks for the password again; behind this layer its pages need not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

__all__ = ["LOGIN", "Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOGIN = "/login"
OPEN = {"/api/health", "/api/ready"}  # for probes; they tell nothing
READS = {"GET", "HEAD", "OPTIONS"}
LARGEST = 16 * 2**20  # bytes of a request; Prefect's own are at most 4 MB
HERE = b"connect-src 'self' data: blob:"  # pages ask no other server; Prefect's would count clicks
YEAR = 365 * 86400  # seconds that a browser keeps the cookie


class Guard:
    """Lets through to `app` who knows the password and asks from a page of this server, or from no page.

    Args:
        password: name:password, ASCII.
        names: Host names that this server has, lower case. It may always be called by number.
        public: Its address for people, where a proxy is before it.
    """

    def __init__(self, app: App, password: str, names: Collection[str], public: str = "") -> None:
        self.app, self.names = app, {*names, "localhost"}
        self.basic = f"Basic {base64.b64encode(password.encode()).decode()}"
        self.password = password
        self.cookie = hmac.new(password.encode(), b"cookie of csp", hashlib.sha256).hexdigest()
        self.public = public.lower() or None
        if self.public:
            self.names.add(urlsplit(self.public).hostname or "")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if wrong := self._not_asked_rightly(headers):
            await _refuse(scope, send, *wrong)
        elif scope["type"] == "websocket":  # Prefect asks for the password in the first message
            await self.app(scope, receive, send)
        elif int(headers.get("content-length", "0") or 0) > LARGEST:
            await _refuse(scope, send, 413, f"A request has at most {LARGEST // 2**20} MB.")
        elif scope["path"] == LOGIN:
            await self._login(scope, headers, receive, send)
        elif scope["path"] in OPEN and scope["method"] in READS:
            await self.app(scope, receive, send)
        elif self._knows(scope, headers):
            other = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            scope["headers"] = [*other, (b"authorization", self.basic.encode())]
            await self.app(scope, _bounded(receive), _stays_here(send))
        elif scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            await _answer(send, 303, "", location=f"{LOGIN}?to={quote(scope['path'] + query, safe='')}")
        else:
            await _refuse(scope, send, 401, "This server asks for a password.")

    def _not_asked_rightly(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence for what no password makes right."""
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            return 421, (
                "This server does not know itself by that name; start `csp up` with --public-url and this "
                "address, or call it by its number."
            )
        page = headers.get("origin")
        if page is not None and _netloc(page) != _netloc(f"http://{host}") and page.lower() != self.public:
            return 403, "Requests from pages of other sites are refused."
        return None

    def _is_ours(self, host: str) -> bool:
        parts = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d+)?", host, re.ASCII)
        name = (parts[1] or parts[2]) if parts else ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True

    def _knows(self, scope: Message, headers: dict[str, str]) -> bool:
        """By its header; or by the cookie, which a browser sends along with what it is made to send.

        So what changes something must name the page that it comes from, which has been looked at.
        """
        if _same(headers.get("authorization", ""), self.basic):
            return True
        cookies = [cookie.strip() for cookie in headers.get("cookie", "").split(";")]
        shown = any(_same(cookie, f"{_cookie_name(scope)}={self.cookie}") for cookie in cookies)
        return shown and (scope["method"] in READS or "origin" in headers)

    async def _login(self, scope: Message, headers: dict[str, str], receive: Receive, send: Send) -> None:
        """The page that asks for the password, and the cookie for who knows it."""
        to = parse_qs(scope["query_string"].decode("latin-1")).get("to", ["/"])[0]
        if not to.startswith("/") or to.startswith(("//", "/\\")) or not to.isprintable():
            to = "/"
        if scope["method"] != "POST":
            await _answer(send, 200, _page(to), kind="text/html")
            return
        form = parse_qs((await _body(_bounded(receive))).decode("utf-8", "replace"))
        if not _same(form.get("password", [""])[0].strip(), self.password):
            await _answer(send, 401, _page(to, "That is not the password."), kind="text/html")
            return
        at = f"https://{_netloc('https://' + headers['host'])}"
        rules = f"Path=/; Max-Age={YEAR}; HttpOnly; SameSite=Lax"
        rules += "; Secure" if scope["scheme"] == "https" or at == self.public else ""
        cookie = f"{_cookie_name(scope)}={self.cookie}; {rules}"
        await _answer(send, 303, "", **{"location": quote(to, safe="/?&=%#:,+"), "set-cookie": cookie})


def _stays_here(send: Send) -> Send:
    """Adds to an answer that its page may ask this server alone."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"content-security-policy", HERE)]}
        await send(message)

    return sent


def _cookie_name(scope: Message) -> str:
    """A browser has one set of cookies for all ports of a machine."""
    return f"csp-{(scope.get('server') or ('', 0))[1]}"


def _netloc(origin: str) -> str:
    """host[:port] of an origin, without a port that goes without saying; "?" for what is none."""
    found = re.fullmatch(r"https?://([^/@?#]+)", origin.strip().lower())
    return found[1].removesuffix(":443").removesuffix(":80") if found else "?"


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _page(to: str, wrong: str = "") -> str:
    text = (resources.files("flows") / "login.html").read_text(encoding="utf-8")
    action = html.escape(f"{LOGIN}?to={quote(to, safe='')}")
    return text.replace("{{ action }}", action).replace("{{ wrong }}", html.escape(wrong))


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return body


def _bounded(receive: Receive) -> Receive:
    """Hangs up on who sends more than is allowed without having said so."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return message if size <= LARGEST else {"type": "http.disconnect"}

    return bounded


async def _refuse(scope: Message, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
    else:
        await _answer(send, status, json.dumps({"detail": sentence}), kind="application/json")


async def _answer(send: Send, status: int, text: str, kind: str = "text/plain", **headers: str) -> None:
    body = text.encode()
    safe = {
        "content-type": f"{kind}; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",  # without any, a browser would not say where a form comes from
    }
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in {**safe, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
