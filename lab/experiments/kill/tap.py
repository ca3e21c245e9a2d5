"""Between gateway and edge server: passes batches on, counts what is answered, and can be cut.

Cut, it refuses some batches before the edge server sees them, and loses the edge server's word on others
after it took them: the second is what makes a message answered twice where nobody keeps count.
"""

import http.client
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from lab.experiments.kill.node import Node
from wire.batch import CONTENT_TYPE, Verdict, parse_response
from wire.errors import WireError

_TIMEOUT = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a gateway that was killed in the middle of a request."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Tap:
    """An HTTP server in a thread of its own.

    Args:
        edge: base URL of the edge server.
        nodes: whose answers are counted.

    Attributes:
        answered: how often the edge server said of a message (device, counter) that it answered it just now;
            one answered before is told apart by its verdict.
        batches: passed on. lost: whose answer was lost on purpose.
    """

    def __init__(self, edge: str, nodes: list[Node]) -> None:
        self.answered: Counter[tuple[bytes, int]] = Counter()
        self.batches = self.lost = 0
        self.cut = False
        self._edge = urlsplit(edge).netloc
        self._known = {node.eui for node in nodes}
        self._lock = threading.Lock()
        tap = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                tap._pass(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="tap", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the gateway finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        with self._lock:
            self.batches += 1
            cut, lose = self.cut, self.cut and self.batches % 2 == 0
        if cut and not lose:
            request.close_connection = True
            return
        try:
            connection = http.client.HTTPConnection(self._edge, timeout=_TIMEOUT)
            connection.request("POST", request.path, body, {"Content-Type": CONTENT_TYPE})
            response = connection.getresponse()
            content = response.read()
            connection.close()
        except (OSError, http.client.HTTPException):
            request.close_connection = True
            return
        self._count(content)
        if lose:
            with self._lock:
                self.lost += 1
            request.close_connection = True
            return
        try:
            request.send_response(response.status)
            request.send_header("Content-Type", response.getheader("Content-Type") or CONTENT_TYPE)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
        except OSError:
            request.close_connection = True  # the gateway was killed

    def _count(self, content: bytes) -> None:
        try:
            answers = parse_response(content)
        except WireError:
            return
        with self._lock:
            for answer in answers:
                if answer.verdict == Verdict.ANSWERED and answer.device in self._known:
                    self.answered[answer.device, answer.counter] += 1
