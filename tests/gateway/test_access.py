"""Gateway and edge server on two machines: TLS both ways, a token, and what happens without."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_server.cli import app as edge_app
from gateway.check import _edge
from gateway.errors import GatewayError
from gateway.settings import load
from slimwire.transport import TransportError, client_context, load_certificate, server_context
from tests.gateway.brokers import Authority
from tests.gateway.kit import Node, edge_registry, save_registry
from tests.gateway.test_journey import PATIENCE, Camera, Radio, admin, opened, process
from tests.gateway.test_service_verbs import run
from wire.reply import Status

NODE = Node(1)
OLD, NEW = "the-old-token-of-the-site", "the-new-token-of-the-site"


def secret(path: Path, *tokens: str, mode: int = 0o600) -> Path:
    path.write_text("".join(f"{token}\n" for token in tokens))
    path.chmod(mode)
    return path


def until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_over_tls_with_certificates_and_a_token_that_is_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (server, server_key), (client, client_key) = authority.issue("edge"), authority.issue("gateway")
    (late, late_key), other = authority.issue("late", days=-2), tmp_path / "other"
    other.mkdir()
    edge_registry(NODE).save(tmp_path / "edge-registry.json")
    save_registry(tmp_path / "registry.json", NODE)
    there, ours = secret(tmp_path / "tokens", OLD), secret(tmp_path / "token", OLD)
    edge_file, settings = tmp_path / "edge.toml", tmp_path / "gateway.toml"
    edge_file.write_text(
        f'port = 0\nregistry = "{tmp_path}/edge-registry.json"\ntoken_file = "{there}"\n'
        f'certificate = "{server}"\nkey = "{server_key}"\nclient_ca = "{authority.ca}"\n'
    )
    with process(tmp_path, "edge", "run", "--config", str(edge_file), until="listening on") as (edge, log):
        found = re.search(r"https://127.0.0.1:[0-9]+", log)
        assert found
        url = found[0]

        def write(certificate: Path, key: Path, ca: Path = authority.ca, token: Path = ours) -> None:
            settings.write_text(
                f'format = 2\nlisten = "127.0.0.1:0"\nstate = "{tmp_path}"\nedge = "{url}"\n'
                f'registry = "{tmp_path}/registry.json"\n[uplink]\nca = "{ca}"\ntoken_file = "{token}"\n'
                f'certificate = "{certificate}"\nkey = "{key}"\n'
            )

        def checked() -> list[tuple[bool, str]]:
            found = json.loads(run("check", "--config", settings, "--json")[1])["checks"]
            return [
                (check["good"], check["found"] + check["remedy"])
                for check in found
                if check["name"] in ("edge server", "certificate")
            ]

        # What is wrong is found before a start, and named.
        write(late, late_key)
        assert "expired on" in checked()[0][1]
        assert "does not answer" in checked()[1][1]
        write(client, client_key, Authority(other).ca)
        assert "CERTIFICATE_VERIFY_FAILED" in checked()[1][1]
        write(client, client_key, token=secret(other / "token", NEW))
        assert checked()[1] == (False, f"{url} takes no token of ours" + checked()[1][1].partition("ours")[2])
        write(client, client_key, token=secret(other / "open", OLD, mode=0o644))
        assert "has mode 0644" in checked()[0][1]
        assert "chmod 600" in checked()[0][1]
        write(client, client_key, token=other / "none")
        assert "cannot be read" in checked()[0][1]
        write(client, client_key)
        assert [good for good, _ in checked()] == [True, True]
        assert checked()[1][1] == f"{url} is ready, over TLS"

        arguments = ["gateway", "run", "--config", str(settings)]
        with process(tmp_path, *arguments, until="gateway: gateway") as (gateway, said):
            listening = re.search(r"ZEP on UDP ([0-9.]+):([0-9]+)", said)
            assert listening
            radio, camera = Radio((listening[1], int(listening[2]))), Camera()
            path = tmp_path / "gateway.sock"

            def state() -> dict[str, Any]:
                found: dict[str, Any] = admin(path, "/v1/status")
                return found

            radio.send(NODE.frames(1, camera.sealed(NODE, 1, 0, 0)))
            assert opened(NODE, 1, radio.answer(NODE, 1)).status is Status.ANSWERED
            # The server takes another token only: messages wait, and it is said why.
            secret(there, NEW)
            before = serial(url, authority.ca, client, client_key)
            authority.issue("edge")  # renewed, in the same files
            os.kill(edge.pid, signal.SIGHUP)
            until(lambda: run("check", "--config", settings)[0] == 1)
            radio.send(NODE.frames(2, camera.sealed(NODE, 2, 0, 0)))
            until(lambda: state()["fragments"]["rejected"].get("edge-unauthorized"))
            assert state()["outbox"]["messages"] == 1
            assert any("another token" in line for line in state()["advice"])
            assert serial(url, authority.ca, client, client_key) != before
            secret(ours, NEW)
            os.kill(gateway.pid, signal.SIGHUP)
            assert opened(NODE, 2, radio.answer(NODE, 2)).status is Status.ANSWERED
            until(lambda: not state()["advice"])
            radio.close()
        words = ["--url", url, "--ca", authority.ca, "--certificate", bundle_of(client, client_key)]
        assert "shows no token" in asked(*words)
        assert "latents: answered 2" in asked(*words, "--token-file", ours)


def test_a_renewed_certificate_whose_key_is_not_there_yet_leaves_the_one_before_in_use(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("edge")
    server, client = server_context(certificate, key, None), client_context(authority.ca, None, None)
    shown = certificate_of(server, client)
    before = key.read_bytes()
    authority.issue("edge")  # in the same files
    new = key.read_bytes()
    key.write_bytes(before)
    with pytest.raises(TransportError, match="cannot be used"):
        load_certificate(server, certificate, key)
    assert certificate_of(server, client) == shown
    key.write_bytes(new)
    load_certificate(server, certificate, key)
    assert certificate_of(server, client) not in (shown, None)


def certificate_of(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    """What a handshake shows, in DER."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname="127.0.0.1")
    theirs = server.wrap_bio(up, down, server_side=True)
    for end in (ours, theirs, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ours.getpeercert(binary_form=True)


def test_a_token_is_shown_to_the_server_it_is_for_and_not_to_where_that_one_points(tmp_path: Path) -> None:
    token, shown = secret(tmp_path / "token", OLD), dict[str, list[str | None]]()

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"]
            shown.setdefault(host, []).append(self.headers["Authorization"])
            self.send_response(302 if host == asking else 200)
            if host == asking:
                self.send_header("Location", f"http://{pointed}{self.path}")
            self.end_headers()

        do_POST = do_GET  # noqa: N815  (the base class names it so)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        asking, pointed = f"127.0.0.1:{server.server_port}", f"localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever).start()
        asked("--url", f"http://{asking}", "--token-file", token)
        edge = {"edge": f"http://{asking}", "uplink": {"token_file": token}}
        list(_edge(load(**edge), f"http://{asking}"))
        server.shutdown()
    assert f"Bearer {OLD}" in shown[asking]
    assert set(shown[pointed]) == {None}


def serial(url: str, ca: Path, certificate: Path, key: Path) -> str:
    """Of the certificate that a server shows."""
    host, _, port = url.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        client_context(ca, certificate, key).wrap_socket(plain, server_hostname=host) as secure,
    ):
        return str((secure.getpeercert() or {})["serialNumber"])


def asked(*words: object) -> str:
    """What `slimwire edge status` says."""
    result = CliRunner().invoke(edge_app, ["status", *map(str, words)])
    return result.stdout + str(result.exception or "")


def bundle_of(certificate: Path, key: Path) -> Path:
    """Both in one file."""
    path = certificate.with_suffix(".both")
    path.write_text(certificate.read_text() + key.read_text())
    return path


@pytest.mark.parametrize(
    ("edge", "way", "lacks"),
    [
        ("http://127.0.0.1:8080", {}, None),
        ("http://localhost:8080", {}, None),
        ("http://[::1]:8080", {}, None),
        ("http://127.8.9.1", {}, None),
        ("http://192.0.2.1:8080", {}, "no TLS"),
        ("http://192.0.2.1:8080", {"token_file": "/t"}, "no TLS"),
        ("http://127.0.0.1.example:8080", {}, "no TLS"),
        ("http://127.0.0.1@example", {"token_file": "/t"}, "no TLS"),
        ("https://edge.example", {}, "no a token or a certificate"),
        ("https://edge.example", {"token_file": "/t"}, None),
        ("https://edge.example", {"certificate": "/c"}, None),
        ("http://192.0.2.1:8080", {"insecure": True}, None),
    ],
)
def test_a_way_that_others_could_speak_on_is_taken_only_where_it_is_said(
    edge: str, way: dict[str, Any], lacks: str | None
) -> None:
    settings = load(edge=edge, uplink=way)
    if lacks is None:
        settings.check_edge(edge)
        return
    with pytest.raises(GatewayError, match=lacks.removeprefix("no ")) as caught:
        settings.check_edge(edge)
    assert "insecure = true" in caught.value.remedy


def test_a_gateway_does_not_start_on_such_a_way(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"http://192\.0\.2\.1:8080 is on another machine"):
        run("run", "--state", tmp_path, "--listen", "127.0.0.1:0", "--edge", "http://192.0.2.1:8080")
