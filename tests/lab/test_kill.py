"""Real processes killed: nothing acknowledged is lost, nothing answered twice. `make soak`: the long form."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from edge_server.store import Store
from gateway.receiver import Receiver
from lab.cli import app
from lab.experiments.kill import run as kill
from lab.experiments.kill.air import ZepAir, frames
from lab.experiments.kill.fleet import Fleet, Heard
from lab.experiments.kill.node import GATEWAY, SITE, Node
from lab.experiments.kill.run import Plan
from lab.experiments.kill.stepped import shift
from lab.experiments.kill.tap import Tap
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PaperTrust
from slimwire.errors import SlimwireError
from tests.gateway.kit import accepted, feed
from wire.batch import CONTENT_TYPE, AnswerItem, IngestItem, Verdict, emit_request, emit_response


def silent(_: str) -> None:
    pass


def kept(result: dict[str, object]) -> None:
    """No promise was broken, and none was made without need."""
    kill.check(result)
    assert result["acked"] == result["answered"] == result["sent"]


@pytest.mark.parametrize(
    "plan",
    [
        Plan("gateway", 2, 1, "disk-full", messages=300),
        Plan("edge", 1, 2, "uplink-down", messages=300),
    ],
    ids=lambda plan: f"{plan.component}, {plan.fault}",
)
def test_what_was_acknowledged_is_answered_once_whatever_is_killed(plan: Plan) -> None:
    result = kill.run(plan, silent)
    kept(result)
    assert result["acked"] >= 300
    assert result["kills"] == plan.kills
    assert result["full"] > 0 or plan.fault != "disk-full"
    assert result["lost_responses"] > 0 or plan.fault != "uplink-down"


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["none", "disk-full", "clock-step", "uplink-down"])
@pytest.mark.parametrize("component", ["gateway", "edge", "broker"])
def test_ten_kills_of_each_with_each_fault(component: str, fault: str) -> None:
    for seed in (1, 2):
        result = kill.run(Plan(component, 10, seed, fault), silent)  # type: ignore[arg-type]
        kept(result)
        assert result["acked"] >= 1000
        assert result["offered_per_s"] >= 100


# What judges, judges right.


class FakeTap:
    def __init__(self, **answered: int) -> None:
        self.answered = Counter({(b"devices!", int(name[1:])): times for name, times in answered.items()})
        self.lost = 0


def judged(directory: Path, heard: Heard, tap: FakeTap, record: list[int]) -> dict[str, object]:
    with Store(directory) as store:
        store.commit([(b"devices!", 0, counter, b"answer") for counter in record])
    return kill.judge(Plan(), heard, tap, directory)  # type: ignore[arg-type]


def test_each_way_of_breaking_a_promise_is_seen(tmp_path: Path) -> None:
    heard = Heard()
    heard.sent = {(b"devices!", counter) for counter in (1, 2, 3, 4)}
    heard.acked = {(b"devices!", counter): 0.0 for counter in (1, 2, 3)}
    heard.answered_at = [1.0, 1.5, 4.0]
    good = judged(tmp_path / "a", heard, FakeTap(c1=1, c2=1), [1, 2, 3])
    assert (good["acked"], good["answered"], good["lost"], good["duplicated"]) == (3, 3, 0, 0)
    assert good["longest_gap_s"] == 2.5
    kill.check(good)
    lost = judged(tmp_path / "b", heard, FakeTap(c1=1), [1, 2, 4])
    twice = judged(tmp_path / "c", heard, FakeTap(c1=2), [1, 2, 3])
    made_up = judged(tmp_path / "d", heard, FakeTap(), [1, 2, 3, 9])
    heard.answers[b"devices!", 1] = {b"one", b"another"}
    two_answers = judged(tmp_path / "e", heard, FakeTap(), [1, 2, 3])
    assert (lost["lost"], lost["duplicated"]) == (1, 0)
    for result in (twice, made_up, two_answers):
        assert (result["lost"], result["duplicated"]) == (0, 1)
    for result in (lost, twice, made_up, two_answers, {**good, "forged": 1}):
        with pytest.raises(SlimwireError, match="fault in Slimwire"):
            kill.check(result)


def test_a_cut_tap_refuses_one_batch_and_loses_the_answer_to_the_next() -> None:
    node = Node(1)
    items = [IngestItem(node.eui, 0x40, 7, 0, b"sealed", 0)]
    taken = []

    def handler(body: bytes) -> bytes:
        taken.append(body)
        return emit_response([AnswerItem(*items[0][:3], Verdict.ANSWERED, b"x")])

    with edge(handler) as url:
        tap = Tap(url, [node])
        with httpx.Client() as client:

            def post() -> httpx.Response:
                return client.post(
                    tap.url + "/v1/ingest",
                    content=emit_request(items),
                    headers={"Content-Type": CONTENT_TYPE},
                )

            assert post().content == emit_response([AnswerItem(*items[0][:3], Verdict.ANSWERED, b"x")])
            tap.cut = True
            outcomes = []
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError):
                    post()
                outcomes.append(len(taken))
            tap.cut = False
            assert post().status_code == 200
        assert sorted(outcomes) in ([1, 2], [2, 2])
        assert tap.lost == 1
        assert tap.answered == {(node.eui, 7): 3}
        tap.close()


def edge(handler: Callable[[bytes], bytes]) -> contextlib.AbstractContextManager[str]:
    """An HTTP server that answers each POST with what `handler` makes of its body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = handler(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    @contextlib.contextmanager
    def serving() -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()

    return serving()


def test_a_stepped_process_reads_another_time_of_day_and_the_same_monotonic_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("time", "time_ns", "clock_gettime"):
        monkeypatch.setattr(time, name, getattr(time, name))
    real, monotonic = time.time(), time.monotonic()
    shift(tmp_path / "step")
    assert abs(time.time() - real) < 60  # no file yet: no step
    (tmp_path / "step").write_text("-1000000\n")
    assert abs(time.time() - real + 1e6) < 60
    assert abs(time.time_ns() / 1e9 - real + 1e6) < 60
    assert abs(time.clock_gettime(time.CLOCK_REALTIME) - real + 1e6) < 60
    assert abs(time.monotonic() - monotonic) < 60
    assert abs(time.clock_gettime(time.CLOCK_MONOTONIC) - monotonic) < 60


def test_the_fleets_frames_are_those_of_a_device_and_offering_can_be_paused() -> None:
    node = Node(3)
    registry = GatewayRegistry(GATEWAY, SITE, devices={node.eui: Device(node.eui, "", {0: node.keys})})
    receiver = Receiver(registry, KeyedChain(), PaperTrust())
    sealed = node.seal(5, bytes(300))
    (message,) = accepted(feed(receiver, frames(node, 5, node.slices(5, sealed))))
    assert (message.device, message.counter, message.sealed) == (node.eui, 5, sealed)
    air = ZepAir(("127.0.0.1", 9))
    fleet = Fleet(air, [Node(1), Node(2)], [bytes(20)], 1000.0, 1)
    fleet.pause()
    fleet.start()
    assert fleet.waiting == 0
    assert fleet.stop().sent == set()
    air.close()


def test_a_component_or_a_fault_that_does_not_exist_is_named() -> None:
    for wrong in (["--component", "moon"], ["--fault", "flood"]):
        outcome = CliRunner().invoke(app, ["kill", *wrong])
        assert isinstance(outcome.exception, SlimwireError)
        assert "gateway, edge, broker; one of none, disk-full" in str(outcome.exception)


def test_the_command_prints_what_the_run_found(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {
        "acked": 9, "answered": 9, "lost": 0, "duplicated": 0, "kills": 2, "longest_gap_s": 1.5, "forged": 0,
    }  # fmt: skip
    plans = []
    monkeypatch.setattr(kill, "run", lambda plan, say: (plans.append(plan), result)[1])
    outcome = CliRunner().invoke(
        app, ["kill", "--component", "edge", "--kills", "2", "--seed", "5", "--json"]
    )
    assert json.loads(outcome.stdout) == result
    assert plans == [Plan("edge", 2, 5)]
    told = CliRunner().invoke(app, ["kill"]).stdout
    assert "9 messages acknowledged, 9 answered; 0 lost, 0 duplicated over 2 kills" in told
