"""Asking an OPTIMADE server for its crystals, page by page, whatever it answers.

The package `optimade` has a client, which keeps all pages in memory and cannot go on where it stopped; this
one hands out pages as they come. Servers die, throttle, send web pages in place of data, count wrong or take
forever: each of these is tried again for a while and then told in one sentence (`ProviderError`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from csp.download import offline
from csp.errors import InputError, ProviderError
from csp.library.providers import LIST, PROVIDERS, Provider

if TYPE_CHECKING:
    import httpx

__all__ = ["FIELDS", "Client", "Page", "check_online", "resolve"]

FIELDS = (
    "lattice_vectors",
    "cartesian_site_positions",
    "species",
    "species_at_sites",
    "nsites",
    "nelements",
    "dimension_types",
    "structure_features",
    "last_modified",
    "immutable_id",
)
PAGE = 500  # entries asked for at once; servers give fewer where they allow fewer
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s, doubling from one try to the next
CONNECT, SILENT, WHOLE = 10.0, 60.0, 180.0  # s that a connection, the next bytes and one answer may take
LARGEST = 1 << 28  # bytes of one answer
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


def check_online() -> None:
    """May other machines be asked?

    Raises:
        ProviderError: CSP_OFFLINE forbids it.
    """
    if offline():
        raise ProviderError("CSP_OFFLINE is set: no database is asked.")


# -- answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """One answer.

    Attributes:
        entries: JSON:API resources.
        following: Address of the next page; "" after the last.
        returned: How many entries the server says it has for the question; None: it does not say.
        available: How many it says it has in all.
    """

    entries: list[dict[str, Any]]
    following: str
    returned: int | None
    available: int | None


@dataclass(slots=True)
class Client:
    """Asks one provider.

    Attributes:
        pause: Sleeps so many seconds.
        deadline: `time.monotonic()` after which nothing more is asked; None: never.
    """

    provider: Provider
    page: int = PAGE
    pause: Callable[[float], None] = time.sleep
    deadline: float | None = None
    _http: httpx.Client | None = field(default=None, repr=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def pages(self, query: str = "", start: str = "") -> Iterator[Page]:
        """All pages of a question, from the address `start` if one is given.

        Raises:
            ProviderError: The server cannot be reached or understood, or sends the same page again.
        """
        url, seen, first = start, set[str](), not start
        while True:
            page = self._first(query) if first else self._page(url)
            first = False
            yield page
            url = page.following
            if not url:
                return
            if url in seen:
                raise ProviderError(
                    f"{self.provider.title} sends the same page again and again; it has no end."
                )
            seen.add(url)

    def licence(self) -> str:
        """Of the data, as the server says it; "" where it does not."""
        try:
            attributes = self._json(f"{self.provider.base_url}/v1/info", tries=1)["data"]["attributes"]
            known = attributes.get("available_licenses") or []
            link = attributes.get("license") or ""
            return ", ".join(map(str, known)) or str(link.get("href", "") if isinstance(link, dict) else link)
        except (ProviderError, LookupError, TypeError, AttributeError):
            return ""

    # -- one answer -------------------------------------------------------------------------------

    def _first(self, query: str) -> Page:
        """The first page; servers that refuse the size of it, or fields of their own, are asked without."""
        own = [*FIELDS, *self.provider.own_fields]
        refusal: ProviderError | None = None
        for size, names in ((self.page, own), (self.page, list(FIELDS)), (None, None)):
            asked = {
                **({"filter": query} if query else {}),
                **({"page_limit": str(size)} if size else {}),
                **({"response_fields": ",".join(names)} if names else {}),
            }
            try:
                return self._page(f"{self.provider.base_url}/v1/structures?{urlencode(asked)}")
            except ProviderError as error:
                if not error.refused:
                    raise
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _page(self, url: str) -> Page:
        found = self._json(url)
        data, meta = found.get("data"), found.get("meta")
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise ProviderError(f"{_host(url)} sends no list of structures; is it an OPTIMADE server?")
        meta = meta if isinstance(meta, dict) else {}
        links = found.get("links")
        following = links.get("next") if isinstance(links, dict) else None
        if isinstance(following, dict):
            following = following.get("href")
        following = urljoin(url, following) if isinstance(following, str) and following else ""
        if following and urlsplit(following).scheme not in ("http", "https"):
            raise ProviderError(f"{_host(url)} names {following[:60]!r} as its next page.")
        return Page(data, following, _count(meta.get("data_returned")), _count(meta.get("data_available")))

    def _json(self, url: str, tries: int = TRIES) -> dict[str, Any]:
        """What an address answers, tried again while that may help."""
        pause = FIRST_PAUSE
        for attempt in range(1, tries + 1):
            try:
                return self._once(url)
            except ProviderError as error:
                if not error.transient or attempt == tries:
                    raise
                wait = min(max(pause, error.retry_after), LONGEST_PAUSE)
                if error.retry_after > 2 * LONGEST_PAUSE:
                    raise ProviderError(
                        f"{_host(url)} asks to be left alone for {error.retry_after:.0f} s; try again then."
                    ) from error
                if self.deadline is not None and time.monotonic() + wait > self.deadline:
                    raise
                self.pause(wait)
                pause *= 2.0
        raise AssertionError("unreachable")

    def _once(self, url: str) -> dict[str, Any]:
        import httpx

        check_online()
        left = WHOLE if self.deadline is None else min(WHOLE, self.deadline - time.monotonic())
        if left <= 0:
            raise ProviderError(f"{_host(url)} took too long.", transient=True)
        if self._http is None:
            self._http = httpx.Client(follow_redirects=True, headers={"User-Agent": "csp-engine"})
        ends = time.monotonic() + left
        timeout = httpx.Timeout(min(SILENT, left), connect=min(CONNECT, left))
        try:
            with self._http.stream("GET", url, timeout=timeout) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if time.monotonic() > ends:
                        raise ProviderError(f"{_host(url)} took too long.", transient=True)
                    if len(body) > LARGEST:
                        raise ProviderError(f"{_host(url)} sends a page of more than {LARGEST >> 20} MiB.")
                return _understood(
                    url, answer.status_code, answer.headers.get("retry-after", ""), bytes(body)
                )
        except httpx.TimeoutException as error:
            raise ProviderError(f"{_host(url)} does not answer in time.", transient=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderError(f"{_host(url)} cannot be reached ({error}).", transient=True) from error


def _understood(url: str, status: int, retry_after: str, body: bytes) -> dict[str, Any]:
    """The JSON of an answer. Raises ProviderError for any other, and for one that tells of an error."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if status in TRANSIENT:
        raise ProviderError(
            f"{_host(url)} answers with the error {status}{_details(found)}.",
            transient=True,
            retry_after=_seconds(retry_after),
        )
    if status >= 400:
        raise ProviderError(
            f"{_host(url)} refuses the question with the error {status}{_details(found)}.", refused=True
        )
    if not isinstance(found, dict):
        what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not"
        raise ProviderError(f"{_host(url)} sends {what} in place of JSON; is it an OPTIMADE server?")
    return found


def _details(found: Any) -> str:
    errors = found.get("errors") if isinstance(found, dict) else None
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    text = str(first.get("detail") or first.get("title") or "")
    return f" ({' '.join(text.split())[:120]})" if text else ""


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header, which may be a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


# -- providers ------------------------------------------------------------------------------------------


def resolve(name: str, pause: Callable[[float], None] = time.sleep) -> Provider:
    """The provider of a name, or at an address. Names that are not known here are looked up in the list that
    the OPTIMADE consortium keeps; `a.b` is the database b of a provider a.

    Raises:
        InputError: There is no such provider.
        ProviderError: The list cannot be read.
    """
    if "://" in name:
        return Provider.at(name)
    if name in PROVIDERS:
        return PROVIDERS[name]
    known = f"choose from {', '.join(PROVIDERS)}, or give an address"
    if offline():
        raise InputError(f"There is no provider {name!r} that is known here; {known}.")
    first, _, second = name.partition(".")
    with Client(
        Provider("list", LIST.removesuffix("/v1/links"), "The list of providers"), pause=pause
    ) as client:
        index = _linked(client._json(LIST, tries=2), "external").get(first)
        if not index:
            raise InputError(f"There is no provider {first!r}; {known}.")
        databases = _linked(client._json(f"{index.rstrip('/')}/v1/links", tries=2), "child")
    if second not in databases and len(databases) != 1:
        names = ", ".join(f"{first}.{one}" for one in databases)
        raise InputError(f"The provider {first!r} has several databases; name one: {names}.")
    base = databases.get(second) or next(iter(databases.values()))
    return Provider(name, base.rstrip("/"), name)


def _linked(found: dict[str, Any], kind: str) -> dict[str, str]:
    """Id → address of the links of a kind."""
    links = {}
    data = found.get("data")
    for one in data if isinstance(data, list) else []:
        attributes = one.get("attributes") or {}
        url = attributes.get("base_url")
        url = url.get("href") if isinstance(url, dict) else url
        if attributes.get("link_type") == kind and isinstance(url, str):
            links[str(one.get("id"))] = url
    return links
