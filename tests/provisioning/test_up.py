"""`slimwire provision up`: one command from a bare board to a verified fleet entry, again and again."""

import hashlib
import json
import re
import shutil
import time
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from models.bundle import Bundle
from provisioning import access, entries, profiles
from provisioning.board import Board
from provisioning.emulated import emulate, read_image
from provisioning.errors import BoardError, GatewayAwayError, NotHeardError, ProvisionError
from provisioning.up import STEPS, Progress, Request, Up
from security.keys import derive_edge, derive_gateway
from security.registry import EdgeRegistry, GatewayRegistry
from slimwire.cli import app

C3 = profiles.load("esp32c3")


def run(*arguments: str):
    return CliRunner().invoke(app, ["provision", *arguments])


def files_on(image) -> dict[str, bytes]:
    """Every file of a flash image but the counters, which the running device writes."""
    flash, found = read_image(image), {}
    for folder, _, names in flash.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if not name.startswith("counter"):
                with flash.open(path, "rb") as file:
                    found[path] = file.read()
    return found


def up(board) -> None:
    """Wait until a new board has made its file system and gives a prompt."""
    end = time.monotonic() + 20
    while not board.boots:
        assert time.monotonic() < end
        time.sleep(0.01)


class Story:
    """One board from bare to verified, run by the command line; everything that was seen on the way."""

    def __init__(self, running, directory) -> None:
        self.image = directory / "board.img"
        with emulate(C3, self.image, directory / "port") as board:
            self.arguments = ["--port", str(board.port), "--board", "esp32c3", "--site", str(running.path)]
            up(board)
            before = hashlib.sha256(self.image.read_bytes()).hexdigest()
            self.entries_before = entries.read_all(running.site.directory)
            self.dry_bare = run("up", *self.arguments, "--dry-run", "--json")
            self.same_bytes = hashlib.sha256(self.image.read_bytes()).hexdigest() == before
            self.entries_after_dry_run = entries.read_all(running.site.directory)
            self.first = run("up", *self.arguments, "--name", "hall 3", "--json")
            self.files = files_on(self.image)
            self.second = run("up", *self.arguments, "--json")
            self.third = run("up", *self.arguments)
            self.dry_done = run("up", *self.arguments, "--dry-run", "--json")
            self.verify = run("verify", *self.arguments, "--json")
            self.listed = run("list", "--site", str(running.path), "--json")
            self.shown = run("show", "hall 3", "--site", str(running.path), "--json")
            self.logs = list(access.listen(str(board.port), 2.5))
        self.files_after = files_on(self.image)

    def report(self, name: str):
        result = getattr(self, name)
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (told["site"], told["done"], told["failed"]) == ("lab", 1, 0)
        return told["boards"][0]


@pytest.fixture(scope="module")
def story(running, tmp_path_factory):
    return Story(running, tmp_path_factory.mktemp("story"))


def results(report) -> dict[str, str]:
    return {step["step"]: step["result"] for step in report["steps"]}


def test_a_dry_run_of_a_bare_board_tells_every_step_and_changes_no_byte(story) -> None:
    report = story.report("dry_bare")
    assert story.same_bytes
    assert story.entries_before == story.entries_after_dry_run
    assert list(results(report)) == list(STEPS)
    assert results(report)["files"] == results(report)["identity"] == results(report)["hello"] == "would"
    assert {"/main.py", "/head.bin", "/lib/firmware/agent.mpy"} <= {file["path"] for file in report["copy"]}
    assert (report["dry_run"], report["would_change"], report["verified"]) == (True, True, False)


def test_one_command_makes_a_verified_entry(story, running) -> None:
    report = story.report("first")
    assert (report["changed"], report["verified"]) == (True, True)
    assert report["epoch"] == json.loads(story.files["/device.json"])["epoch"]
    assert (report["board"], report["code"], report["name"]) == ("esp32c3", "x64", "hall 3")
    assert results(report)["hello"] == "done"
    entry = entries.read(running.site.directory, report["eui64"])
    assert (entry.state, entry.name, entry.bundle) == ("verified", "hall 3", "fashion-mnist")
    assert entry.verified_at >= entry.installed_at > 0
    assert "/device.json" in story.files
    assert report["eui64"][6:10] == "fffe"  # made of the chip's MAC-48


def test_what_was_installed_is_on_the_flash_and_in_both_registries(story, running) -> None:
    assert story.files["/head.bin"] == Bundle.load("fashion-mnist").head_bytes
    settings = json.loads(story.files["/device.json"])
    eui, root = bytes.fromhex(settings["eui64"]), bytes.fromhex(settings["root"])
    gateway = GatewayRegistry.load(running.site.directory / "registry.json")
    edge = EdgeRegistry.load(running.site.directory / "edge-registry.json")
    assert gateway.gateway.hex() == settings["gateway"]
    epoch = settings["epoch"]
    assert gateway.devices[eui].epochs == {epoch: derive_gateway(root, eui, epoch, "lab")}
    assert edge.devices[eui].epochs == {epoch: derive_edge(root, eui, epoch)}


def test_a_second_run_does_nothing_and_says_so(story) -> None:
    report = story.report("second")
    assert (report["changed"], report["verified"]) == (False, True)
    assert report["epoch"] == story.report("first")["epoch"]
    done = {step for step, result in results(report).items() if result == "done"}
    assert done == {"look", "reset", "hello", "entry"}
    assert story.third.exit_code == 0
    assert "nothing to do" in story.third.stdout
    assert story.files == story.files_after


def test_a_dry_run_of_a_good_board_finds_nothing_to_do(story) -> None:
    report = story.report("dry_done")
    assert not report["would_change"]
    assert report["copy"] == report["delete"] == []


def test_verify_list_and_show_agree(story) -> None:
    assert story.report("verify")["verified"]
    listed = json.loads(story.listed.stdout)
    shown = json.loads(story.shown.stdout)
    assert listed["answers"]
    mine = next(each for each in listed["devices"] if each["eui64"] == shown["eui64"])
    assert (mine["state"], mine["enrolled"], mine["revoked"], mine["epochs"]) == (
        "verified",
        True,
        False,
        [story.report("first")["epoch"]],
    )
    assert shown["name"] == "hall 3"
    assert shown["messages"] > 0


def test_logs_are_what_the_running_device_says(story) -> None:
    events = [json.loads(line)["e"] for line in story.logs[1:] if line.startswith("{")]
    assert set(events) <= {"sent", "rx", "lost", "custody", "answer", "start"}
    assert events


def test_the_root_secret_is_told_nowhere(story, running) -> None:
    root = json.loads(story.files["/device.json"])["root"]
    for seen in (story.first, story.second, story.third, story.dry_done, story.shown, story.listed):
        assert root not in seen.output
    for path in (running.site.directory / "devices").iterdir():
        assert root not in path.read_text()
    assert root not in running.log.read_text()


# --- interruptions ---


class CutError(Exception):
    """Stands for whatever ends a run in its middle."""


def stopping_at(step: str, result: str):
    def tell(progress: Progress) -> None:
        if (progress.step, progress.result) == (step, result):
            raise CutError(step)

    return tell


class HalfCopies(Board):
    """A board whose link breaks after some files of a copy."""

    def copy(self, files, say) -> None:
        seen = []

        def count(line: str) -> None:
            seen.append(line)
            if len(seen) > 5:
                raise CutError("copy")

        super().copy(files, count)


@pytest.fixture(scope="module")
def request_of(running):
    return Request(site=running.site, profile=C3, bundle=Bundle.load("fashion-mnist"))


def test_a_run_goes_on_after_an_interruption_at_each_step(running, request_of, tmp_path) -> None:
    """The board and the site live through all interruptions one after the other, then one run finishes."""
    with emulate(C3, tmp_path / "board.img", size_kib=512) as board:
        port = str(board.port)
        with pytest.raises(CutError):
            Up(port, request_of, lambda _: None, board=HalfCopies).run()
        copied = [name for name in files_on(tmp_path / "board.img") if name.startswith("/lib")]
        assert 0 < len(copied) < 30
        for step in ("look", "files", "identity", "read back", "enrol", "reset", "hello"):
            with pytest.raises(CutError, match=step):
                Up(port, request_of, stopping_at(step, "begun")).run()
        with pytest.raises(CutError):
            Up(port, request_of, stopping_at("entry", "done")).run()
        last = Up(port, request_of, lambda _: None).run()
        again = Up(port, request_of, lambda _: None).run()
    assert last["verified"]
    assert (again["changed"], again["verified"], again["epoch"]) == (False, True, last["epoch"])
    registry = GatewayRegistry.load(running.site.directory / "registry.json")
    assert list(registry.devices[bytes.fromhex(last["eui64"])].epochs) == [last["epoch"]]


# --- what is refused ---


def test_a_gateway_that_is_away_is_told_before_the_board_is_touched(running, tmp_path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(f'format = 1\ndirectory = "{running.site.directory}"\n[gateway]\nadmin = "none.sock"\n')
    with emulate(C3, tmp_path / "board.img", size_kib=256) as board:
        result = run("up", "--port", str(board.port), "--board", "esp32c3", "--site", str(path))
        up(board)
        assert board.writes == 4  # what making the file system took
    assert isinstance(result.exception, GatewayAwayError)
    assert "--no-wait" in str(result.exception)


def test_a_board_of_another_kind_is_refused_and_left_alone(running, request_of, tmp_path) -> None:
    with emulate(profiles.load("pico-w"), tmp_path / "board.img") as board:
        up(board)
        writes = board.writes
        with pytest.raises(BoardError, match=r"Pico W.*\n.*ESP32-C3.*\n.*--board pico-w") as error:
            Up(str(board.port), request_of, lambda _: None).run()
        assert board.writes == writes
    assert error.value.fault == "wrong-chip"


def test_what_belongs_to_somebody_else_is_replaced_only_if_somebody_agrees(request_of, tmp_path) -> None:
    with emulate(C3, tmp_path / "board.img", size_kib=512) as board:
        port = str(board.port)
        Board(port).copy({"/main.py": b"print('mine')\n"}, lambda _: None)
        asked = []
        with pytest.raises(BoardError, match="not Slimwire's") as error:
            Up(port, request_of, lambda _: None, lambda what: bool(asked.append(what))).run()
        assert error.value.fault == "not-confirmed"
        assert len(asked) == 1
        report = Up(port, replace(request_of, dry_run=True), lambda _: None).run()
        assert report["would_change"]
    assert files_on(tmp_path / "board.img") == {"/main.py": b"print('mine')\n"}


def test_the_site_chooses_link_and_source_among_what_the_board_has(request_of, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLIMWIRE_MQTT_PASSWORD", "hush hush")

    def of(**device):
        section = request_of.site.device.model_copy(update=device)
        return replace(
            request_of, site=request_of.site.model_copy(update={"device": section}), wait_s=None, dry_run=True
        )

    with emulate(C3, tmp_path / "board.img", size_kib=512) as board:
        port = str(board.port)
        dry = of(
            link={"type": "mqtt", "tls": True},
            source={"type": "adc", "pins": [1], "rate_hz": 100},
            custody="keep-until-answer",
        )
        planned = Up(port, dry, lambda _: None).run()
        assert "/camera.bin" not in [file["path"] for file in planned["copy"]]
        mqtt = replace(dry, dry_run=False)
        report = Up(port, mqtt, lambda _: None).run()
        files = files_on(tmp_path / "board.img")
        settings = json.loads(files["/device.json"])
        assert settings["link"] == {"type": "mqtt", "tls": True, "host": "127.0.0.1", "password": "hush hush"}
        assert settings["source"] == {"type": "adc", "pins": [1], "rate_hz": 100}
        assert settings["custody"] == "keep-until-answer"
        certificate = x509.load_der_x509_certificate(files["/device.crt"])
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(files["/ca.der"]))
        assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == report["eui64"]
        key = serialization.load_der_private_key(files["/device.key"], None)
        assert key.public_key() == certificate.public_key()
        assert not Up(port, dry, lambda _: None).run()["would_change"]
        Board(port).clear("/nothing", [], ["/device.key"])
        lost = Up(port, dry, lambda _: None).run()
        assert lost["would_change"]
        assert lost["epoch"] > report["epoch"]  # a lost key is replaced with its identity
        Board(port).copy({"/device.key": files["/device.key"]}, lambda _: None)
        monkeypatch.setenv("SLIMWIRE_MQTT_PASSWORD", "another")
        again = Up(port, dry, lambda _: None).run()
        assert again["would_change"]
        assert "hush" not in json.dumps([planned, report, again])
        for device, said in (
            ({"link": {"type": "lora"}}, "has no link 'lora'"),
            ({"source": {"type": "camera"}}, "has no source 'camera'"),
            ({"link": {"type": "espnow", "channel": 6}}, "dongle is missing"),
        ):
            with pytest.raises(ProvisionError, match=said):
                Up(port, of(**device), lambda _: None).run()


def test_a_device_that_nobody_hears_is_installed_and_not_verified(
    running, story, request_of, tmp_path
) -> None:
    shutil.copy(story.image, tmp_path / "board.img")  # only the identity is another's
    site = running.site.model_copy(
        update={"gateway": running.site.gateway.model_copy(update={"port": 9})}  # discard: nobody listens
    )
    unheard = replace(request_of, site=site, wait_s=1.0)
    with (
        emulate(C3, tmp_path / "board.img", size_kib=512) as board,
        pytest.raises(NotHeardError, match="heard nothing") as error,
    ):
        Up(str(board.port), unheard, lambda _: None).run()
    assert error.value.exit_code == 8
    entry = next(e for e in entries.read_all(site.directory) if e.port == str(board.port))
    assert (entry.state, entry.verified_at) == ("installed", 0)


def test_exit_codes_are_what_the_documentation_says() -> None:
    from pathlib import Path

    from provisioning import errors

    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ProvisionError)
    }
    assert codes <= table
