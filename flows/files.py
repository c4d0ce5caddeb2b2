"""The folders of the runs, served for reading, so that Prefect's pages can link to reports and structures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from flows.home import runs
from flows.roots import roots

__all__ = ["RunFiles"]

AS_TEXT = {".cif", ".csv", ".extxyz", ".jsonl", ".log"}  # what a browser is to show
SAFE = {
    # a page among them can show and compute, but ask nothing of this server in its reader's name
    "content-security-policy": "sandbox allow-scripts allow-popups allow-downloads",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class RunFiles(StaticFiles):
    """As an ASGI app. A run whose folder is elsewhere is a link here, and may lead below the roots only."""

    def __init__(self) -> None:
        runs().mkdir(parents=True, exist_ok=True)
        super().__init__(directory=runs(), follow_symlink=True)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        found, status = super().lookup_path(path)
        real = Path(found).resolve()
        if status is None or not any(real.is_relative_to(root.resolve()) for root in roots()):
            return "", None
        return found, status

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Any, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(SAFE)
        if Path(full_path).suffix in AS_TEXT:
            response.headers["content-type"] = "text/plain; charset=utf-8"
        return response
