"""An OPTIMADE server of a library file on the loopback interface, which can be told to misbehave.

The reference server (package `optimade`) keeps its entries in mongomock and reads the file anew for each;
this one is for 150,000 entries and for what a proper server does not do.

    python -m benchmarks.library.server LIBRARY.parquet
"""

from __future__ import annotations

import ast
import json
import operator
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
from ase.data import chemical_symbols

from csp.library.library import Library

__all__ = ["Served", "anonymous", "resource", "serving"]

Json = dict[str, Any]


COMPARISONS = {
    ast.Eq: operator.eq,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def anonymous(counts: Counter[str]) -> str:
    amounts = np.array(sorted(counts.values(), reverse=True))
    amounts //= np.gcd.reduce(amounts)
    return "".join(f"{chr(65 + k)}{n if n > 1 else ''}" for k, n in enumerate(amounts.tolist()))


def resource(name: str, cell: np.ndarray, frac: np.ndarray, numbers: np.ndarray, **more: Any) -> Json:
    """A crystal as the reference server serves it."""
    symbols = [chemical_symbols[z] for z in numbers.tolist()]
    counts = Counter(symbols)
    divisor = int(np.gcd.reduce(list(counts.values())))
    return {
        "id": name,
        "type": "structures",
        "attributes": {
            "lattice_vectors": np.round(cell, 6).tolist(),
            "cartesian_site_positions": np.round(frac @ cell, 6).tolist(),
            "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(counts)],
            "species_at_sites": symbols,
            "elements": sorted(counts),
            "elements_ratios": [counts[s] / len(symbols) for s in sorted(counts)],
            "chemical_formula_anonymous": anonymous(counts),
            "chemical_formula_reduced": "".join(
                f"{s}{n if (n := counts[s] // divisor) > 1 else ''}" for s in sorted(counts)
            ),
            "chemical_formula_descriptive": "".join(f"{s}{counts[s]}" for s in sorted(counts)),
            "nsites": len(symbols),
            "nelements": len(counts),
            "dimension_types": [1, 1, 1],
            "nperiodic_dimensions": 3,
            "structure_features": [],
            "last_modified": "2026-01-31T00:00:00Z",
            **more,
        },
    }


def _condition(node: ast.expr) -> Callable[[Json], bool]:
    """What a filter, written as an expression of Python, asks of an entry; nothing else is carried out."""
    if isinstance(node, ast.BoolOp):
        parts, combine = (
            [_condition(part) for part in node.values],
            all if isinstance(node.op, ast.And) else any,
        )
        return lambda entry: combine(part(entry) for part in parts)
    if isinstance(node, ast.Constant):
        return lambda entry: bool(node.value)
    assert isinstance(node, ast.Compare)
    left, right = _operand(node.left), _operand(node.comparators[0])
    holds = COMPARISONS[type(node.ops[0])]
    return lambda entry: holds(left(entry), right(entry))


def _operand(node: ast.expr) -> Callable[[Json], Any]:
    if isinstance(node, ast.Name):
        return operator.itemgetter(node.id)
    if isinstance(node, ast.Call):  # len(…)
        of = _operand(node.args[0])
        return lambda entry: len(of(entry))
    value = ast.literal_eval(node)
    return lambda entry: value


@dataclass
class Served:
    """What is served, and how.

    Attributes:
        extra: Resources as they are, after the library's.
        fault: Of the request with this number (from 1), or of all (0): what is answered in its place, a
            status or "html", "nonsense", "stall", "cut", "loop".
        claim: What is said of the number of entries in place of the truth.
        largest: Entries on a page, at most.
        strict: Refuse a page_limit above `largest`, as the reference server does.
    """

    library: Library | None = None
    extra: list[Json] = field(default_factory=list)
    fault: dict[int, Any] = field(default_factory=dict)
    claim: int | None = None
    largest: int = 1000
    strict: bool = False
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    @cached_property
    def index(self) -> list[Json]:
        """What filters ask of each entry."""
        found: list[Json] = []
        if self.library is not None:
            symbols = np.array(chemical_symbols)
            offsets = self.library._offsets
            for row in range(len(self.library.material_id)):
                own = Counter(symbols[self.library._numbers[offsets[row] : offsets[row + 1]]].tolist())
                found.append({"anonymous": anonymous(own), "elements": frozenset(own), "nsites": own.total()})
        for one in self.extra:
            a = one.get("attributes") or {}
            found.append(
                {
                    "anonymous": a.get("chemical_formula_anonymous", ""),
                    "elements": frozenset(a.get("elements", ())),
                    "nsites": a.get("nsites", 0),
                }
            )
        return found

    def chosen(self, query: str) -> list[int]:
        if self.library is not None and query.startswith("id="):
            return np.flatnonzero(
                np.isin(self.library.material_id, re.findall(r'id="([^"]+)"', query))
            ).tolist()
        text = re.sub(r'elements HAS ALL ((?:"\w+",?)+)', r"{\1} <= elements", query)
        text = re.sub(r'elements HAS ONLY ((?:"\w+",?)+)', r"elements <= {\1}", text)
        text = text.replace("chemical_formula_anonymous=", "anonymous==").replace(
            "nelements=", "len(elements)=="
        )
        text = text.replace(" AND ", " and ").replace(" OR ", " or ") or "True"
        wanted = _condition(ast.parse(text, mode="eval").body)
        return [k for k, entry in enumerate(self.index) if wanted(entry)]

    def resources(self, rows: list[int]) -> list[Json]:
        n = len(self.library.material_id) if self.library is not None else 0
        own = [row for row in rows if row < n]
        found = []
        if self.library is not None and own:
            for row, (cell, frac, numbers) in zip(own, self.library.crystals(own).arrays(), strict=True):
                name = str(self.library.material_id[row])
                found.append(resource(name, cell, frac, numbers, **self.properties.get(name, {})))
        return found + [self.extra[row - n] for row in rows if row >= n]


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, list[int]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            served.requests.append(self.path)
            fault = served.fault.get(len(served.requests), served.fault.get(0))
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path.endswith("/info"):
                self.send(200, {"data": {"attributes": {"available_licenses": ["CC0-1.0"]}}})
            elif isinstance(fault, int):
                self.send(fault, {"errors": [{"detail": "told to"}]})
            elif fault == "html":
                self.raw(200, b"<html><body>Sign in</body></html>", "text/html")
            elif fault == "nonsense":
                self.raw(200, b'{"data": {"a": 1}}', "application/json")
            elif fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(b'{"data": [')
                self.close_connection = True
            elif fault == "stall":
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                for _ in range(200):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            elif served.strict and int(asked.get("page_limit", 0)) > served.largest:
                self.send(403, {"errors": [{"detail": f"Max allowed page_limit is {served.largest}"}]})
            else:
                self.page(asked, fault == "loop")

        def page(self, asked: dict[str, str], loop: bool) -> None:
            query = asked.get("filter", "")
            if query not in answers:
                answers[query] = served.chosen(query)
            rows = answers[query]
            size = min(int(asked.get("page_limit", 20)), served.largest)
            start = int(asked.get("page_offset", 0))
            end = start if loop else start + size
            host = self.headers["Host"]
            following = (
                f"http://{host}/v1/structures?filter={quote(query)}&page_limit={size}&page_offset={end}"
            )
            self.send(
                200,
                {
                    "data": served.resources(rows[start : start + size]),
                    "links": {"next": following if end < len(rows) else None},
                    "meta": {
                        "data_returned": len(rows) if served.claim is None else served.claim,
                        "data_available": len(served.index),
                        "more_data_available": end < len(rows),
                    },
                },
            )

        def send(self, status: int, body: Json) -> None:
            self.raw(status, json.dumps(body).encode(), "application/vnd.api+json")

        def raw(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client went away
                super().handle()

    return Handler


@contextmanager
def serving(served: Served, port: int = 0) -> Iterator[str]:
    """The base URL of a server that is up while the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", port), _handler(served)) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with serving(Served(Library.open(Path(sys.argv[1])))) as url:
        print(url, flush=True)
        threading.Event().wait()
