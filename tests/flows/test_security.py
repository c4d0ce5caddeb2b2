"""What pages of other sites can do in the browser of a person who uses the server; a proxy with TLS."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from playwright.sync_api import TimeoutError as TooSlow

from tests.flows.api import Api
from tests.flows.process import Csp, until
from tests.places import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

ATTACK = """<!DOCTYPE html><title>waiting</title>
<form id=form method=post enctype="text/plain" target=frame
action="{url}/api/deployments/{id}/create_flow_run">
<input name='{{"parameters": {{"formula": "NaCl"}}, "x": "' value='"}}'></form>
<iframe name=frame></iframe>
<script>
const url = "{url}", run = url + "/api/deployments/{id}/create_flow_run";
const body = JSON.stringify({{parameters: {{formula: "NaCl"}}}});
const said = {{}};
async function attempt(name, ask) {{
  try {{ said[name] = await ask(); }} catch (error) {{ said[name] = "refused"; }}
}}
const read = async answer => (await answer).text();
(async () => {{
  await attempt("json", () => read(fetch(run, {{method: "POST", body, credentials: "include",
    headers: {{"Content-Type": "application/json"}}}})));
  await attempt("plain", () => read(fetch(run, {{method: "POST", body, credentials: "include"}})));
  await attempt("untyped", () => read(fetch(run, {{method: "POST", body: new Blob([body]), mode: "no-cors",
    credentials: "include"}})));
  await attempt("read", () => read(fetch(url + "/api/admin/settings", {{credentials: "include"}})));
  await attempt("files", () => read(fetch(url + "/files/", {{credentials: "include"}})));
  await attempt("beacon", () => (navigator.sendBeacon(run, new Blob([body])), "refused"));
  await attempt("socket", () => new Promise((done, failed) => {{
    const socket = new WebSocket(url.replace("http", "ws") + "/api/events/out", "prefect");
    socket.onopen = () => done("open"); socket.onerror = failed;
  }}));
  document.getElementById("form").submit();
  setTimeout(() => document.title = JSON.stringify(said), 3000);
}})();
</script>"""


@contextmanager
def another_site(folder: Path) -> Iterator[int]:
    """A server of somebody else on this machine; its port."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_page_of_another_site_can_do_nothing(
    page: Page, browser: BrowserContext, csp: Csp, tmp_path: Path
) -> None:
    """In a browser that knows the password: of another site, and of another port, which is the same site."""
    api = Api(csp)
    deployment = api.get("/deployments/name/predict/predict")["id"]
    (tmp_path / "index.html").write_text(ATTACK.format(url=csp.url, id=deployment))
    before = api.ask("/flow_runs/count")
    with another_site(tmp_path) as port:
        for host in ("localhost", "127.0.0.1"):
            other = browser.new_page()
            other.goto(f"http://{host}:{port}/")
            other.wait_for_function("document.title !== 'waiting'")
            said = json.loads(other.title())
            assert len(said) == 7
            assert said.pop("untyped") in ("", "refused")  # what came back is not shown to the page
            assert set(said.values()) == {"refused"}, said
            other.close()
    assert api.ask("/flow_runs/count") == before
    page.goto(f"{csp.url}/deployments")  # while pages of the server's own work
    expect(page.get_by_role("link", name="predict-many").first).to_be_visible()


def test_a_report_can_ask_nothing_of_the_server(page: Page, csp: Csp) -> None:
    """It may hold what others wrote into it."""
    folder = csp.home / "runs" / "of-somebody"
    folder.mkdir(parents=True)
    script = f"""fetch("{csp.url}/api/admin/settings").then(a => a.text()).then(
      t => document.title = t, e => document.title = "refused")"""
    (folder / "report.html").write_text(f"<title>waiting</title><script>{script}</script>")
    page.goto(f"{csp.url}/files/of-somebody/report.html")
    page.wait_for_function("document.title !== 'waiting'")
    assert page.title() == "refused"


def test_who_has_not_shown_the_password_is_asked_for_it(browser: BrowserContext, csp: Csp) -> None:
    stranger = browser.browser
    assert stranger is not None
    page = stranger.new_page()
    page.goto(f"{csp.url}/deployments")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button").click()
    expect(page.get_by_text("That is not the password.")).to_be_visible()
    page.get_by_label("Password").fill(csp.password)
    page.get_by_role("button").click()
    page.wait_for_url(f"{csp.url}/deployments")
    expect(page.get_by_role("link", name="predict-many").first).to_be_visible()
    page.context.close()


@pytest.fixture
def proxy(csp: Csp, tmp_path: Path) -> Iterator[str]:
    """nginx as the example has it, with a certificate, ports and places of our own; its address."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*make, *files], check=True, capture_output=True)
    tls, plain = _free_port(), _free_port()
    example = (ROOT / "examples" / "nginx.conf").read_text()
    for place, here in {
        "/etc/ssl/certs/csp.example.org.pem": str(tmp_path / "certificate"),
        "/etc/ssl/private/csp.example.org.key": str(tmp_path / "key"),
        "csp.example.org": "localhost",
        "listen 443": f"listen 127.0.0.1:{tls}",
        "listen 80": f"listen 127.0.0.1:{plain}",
        "127.0.0.1:4200": f"127.0.0.1:{csp.port}",
    }.items():
        assert place in example
        example = example.replace(place, here)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path / 'pid'}; error_log {tmp_path / 'error.log'};"
        f"events {{}} http {{ access_log off; {temporary} {example} }}"
    )
    with subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]) as process:
        until(lambda: _listens(tls) or process.poll() is not None, "nginx", 30, every=0.2)
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        yield f"https://localhost:{tls}"
        process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _shows(page: Page, address: str, link: str) -> bool:
    """Open a page; one that a busy server did not answer in time stays empty until it is opened again."""
    page.goto(address)
    with suppress(TooSlow):
        page.get_by_role("link", name=link).first.wait_for(timeout=60_000)
        return True
    return False


def test_behind_a_proxy_with_tls(proxy: str, browser: BrowserContext, csp: Csp, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(f"{proxy}/login#{csp.password}")
    page.wait_for_url(f"{proxy}/v2/**")
    until(lambda: _shows(page, f"{proxy}/deployments", "predict-many"), "the deployments")
    assert next(one for one in browser.cookies(proxy) if one["name"].startswith("csp-"))["secure"]
    trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
    with httpx.Client(base_url=proxy, verify=trusted, auth=csp.auth) as client:
        assert client.post("/api/flow_runs/count", json={}).is_success
        evil = {"origin": "https://evil.example"}
        assert client.post("/api/flow_runs/count", json={}, headers=evil).status_code == 403
        large = client.post("/api/flow_runs/count", content=bytes(17 * 2**20))
        assert large.status_code == 413
    elsewhere = {
        **csp.environment,
        "CSP_HOME": str(tmp_path / "other"),
        "CSP_URL": proxy,
        "CSP_AUTH": csp.password,
        "PREFECT_API_SSL_CERT_FILE": str(tmp_path / "certificate"),
    }
    there = Csp(tmp_path / "other", csp.port, elsewhere)
    said = there.run("submit", "Xx", code=2) + there.run(
        "submit", "NaCl", "--candidates", "1", "--folder", "/x"
    )
    assert f"{proxy}/runs/flow-run/" in said
    id_ = said.split("/runs/flow-run/")[1].split()[0]
    until(lambda: "outside of the folders" in str(Api(csp).run(id_)["state"]["message"]), "the run failing")
    assert "predict NaCl" in there.run("status")
