"""`slimwire provision doctor`: every fault is named, with its remedy, on a board or a port that has it."""

import json
import multiprocessing
import os
import struct
import subprocess
import sys
import time
from binascii import crc32
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from firmware.hmac import pad
from firmware.keys import derive
from models.bundle import Bundle
from provisioning import access, payload, profiles
from provisioning.board import Board
from provisioning.doctor import examine
from provisioning.emulated import emulate
from provisioning.errors import BoardError, FaultsError
from provisioning.sites import open_site
from provisioning.up import Request, Up
from slimwire.cli import app

C3 = profiles.load("esp32c3")


class Patient:
    """A board in good health, of which tests make what they need and put it back."""

    def __init__(self, running, board) -> None:
        self.board = board
        self.port = str(board.port)
        self.site = running.site
        self.request = Request(site=running.site, profile=C3, bundle=Bundle.load("fashion-mnist"))
        self.report = self.up()
        self.eui = bytes.fromhex(self.report["eui64"])

    def up(self):
        return Up(self.port, self.request, lambda _: None).run()

    def examine(self, **options):
        return examine(self.port, options.pop("profile", C3), options.pop("site", self.site), **options)


@pytest.fixture(scope="module")
def patient(running, tmp_path_factory):
    with emulate(C3, tmp_path_factory.mktemp("patient") / "board.img", size_kib=384) as board:
        yield Patient(running, board)


def faults(findings) -> dict[str, dict]:
    return {each["fault"]: each for each in findings if not each["ok"]}


def only(findings, fault: str):
    found = faults(findings)
    assert list(found) == [fault], findings
    assert found[fault]["remedy"], "a fault has a remedy"
    return found[fault]


def test_nothing_is_wrong_with_a_good_board(patient) -> None:
    findings = patient.examine()
    assert faults(findings) == {}
    checks = [each["check"] for each in findings]
    assert checks == [
        "port",
        "micropython",
        "chip",
        "architecture",
        "flash",
        "clock",
        "identity",
        "gateway",
        "gateway's clock",
    ]


def test_no_permission_on_the_port(patient) -> None:
    device = os.path.realpath(patient.port)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def as_nobody() -> None:
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        queue.put(examine(device, None, None))

    mode = os.stat(device).st_mode
    os.chmod(device, 0)  # its owner may not either; root, who may everything, becomes nobody above
    try:
        child = context.Process(target=as_nobody)
        child.start()
        fault = only(queue.get(timeout=30), "no-permission")
        child.join(30)
    finally:
        os.chmod(device, mode)
    assert device in fault["what"]


def test_the_group_that_owns_a_port_is_named(tmp_path) -> None:
    import grp

    path = tmp_path / "port"
    path.write_text("")
    group = next(g for g in grp.getgrall() if g.gr_name != "root")
    try:
        os.chown(path, -1, group.gr_gid)
    except PermissionError:
        group = grp.getgrgid(path.stat().st_gid)
    assert f"usermod -aG {group.gr_name} $USER" in access._permission(str(path))


def test_a_busy_port_and_who_has_it(patient) -> None:
    code = f"import serial, time; s = serial.Serial({patient.port!r}, exclusive=True); print(1, flush=True); "
    with subprocess.Popen([sys.executable, "-c", code + "time.sleep(60)"], stdout=subprocess.PIPE) as holder:
        try:
            holder.stdout.readline()
            fault = only(examine(patient.port), "port-busy")
            assert f"process {holder.pid}" in fault["what"]
            assert f"kill {holder.pid}" in fault["remedy"]
        finally:
            holder.kill()


def test_no_micropython_on_it() -> None:
    master, slave = os.openpty()
    try:
        fault = only(examine(os.ttyname(slave)), "no-micropython")
        assert "slimwire provision flash" in fault["remedy"]
    finally:
        os.close(master)
        os.close(slave)


def test_the_wrong_chip(patient) -> None:
    fault = only(patient.examine(profile=profiles.load("pico-w")), "wrong-chip")
    assert "ESP32-C3" in fault["what"]
    assert "--board esp32c3" in fault["remedy"]


def test_the_wrong_architecture_of_compiled_code(patient) -> None:
    other = payload.firmware("armv6m").files["/lib/firmware/kernels.mpy"]
    Board(patient.port).copy({"/lib/firmware/kernels.mpy": other}, lambda _: None)
    found = faults(patient.examine())
    fault = found["wrong-architecture"]
    assert "kernels.mpy for armv6m" in fault["what"]
    assert "x64" in fault["what"]
    assert "slimwire provision up" in fault["remedy"]
    report = patient.up()
    assert (report["changed"], report["epoch"]) == (True, patient.report["epoch"])  # the identity stays
    assert faults(patient.examine()) == {}


def test_a_full_flash(patient) -> None:
    board = Board(patient.port)
    board.probe()
    fill = "import os; s = os.statvfs('/'); f = open('/fill', 'wb')\n"
    fill += "for _ in range(s[3] - 3): f.write(bytes(4096))\nf.close()"
    board._exec(fill)
    try:
        fault = only(patient.examine(), "flash-full")
        assert "mpremote fs rm" in fault["remedy"]
        Board(patient.port).clear("/nothing", [], ["/camera.bin", "/head.bin"])
        board._exec("import os; s = os.statvfs('/'); f = open('/more', 'wb')\n" + fill.split("\n", 1)[1])
        with pytest.raises(BoardError) as error:
            patient.up()
        assert error.value.fault == "flash-full"
    finally:
        Board(patient.port).clear("/nothing", [], ["/fill", "/more"])
    assert patient.up()["verified"]


def test_a_wrong_clock(patient) -> None:
    later = time.time() + 3 * 86400
    found = [each for each in patient.examine(now=lambda: later) if not each["ok"]]
    assert [each["check"] for each in found] == ["clock", "gateway's clock"]
    assert {each["fault"] for each in found} == {"clock-wrong"}
    assert "3 days slow" in found[0]["what"]
    assert "rtc --set" in found[0]["remedy"]
    assert "timedatectl" in found[1]["remedy"]


def test_a_gateway_that_cannot_be_reached(patient) -> None:
    section = patient.site.gateway.model_copy(update={"admin": patient.site.path.parent / "none.sock"})
    fault = only(
        patient.examine(site=patient.site.model_copy(update={"gateway": section})), "gateway-unreachable"
    )
    assert "slimwire gateway run" in fault["remedy"]


def test_keys_that_are_not_the_registries(patient) -> None:
    with open_site(patient.site, create=False) as site, site.changing() as change:
        change.set_keys(patient.eui, "", {patient.report["epoch"]: bytes(32)})
    result = CliRunner().invoke(
        app,
        ["provision", "doctor", "--port", patient.port, "--site", str(patient.site.path), "--json"],
    )
    assert isinstance(result.exception, FaultsError)
    assert result.exception.exit_code == 10
    told = json.loads(result.stdout)
    assert told["faults"] == 1
    fault = only(told["findings"], "key-mismatch")
    assert "slimwire provision up" in fault["remedy"]
    report = patient.up()
    assert report["verified"]
    assert report["epoch"] > patient.report["epoch"]
    assert faults(patient.examine()) == {}


def test_a_device_that_was_ordered_to_another_epoch_is_as_it_should_be(patient) -> None:
    """A rotation on the air leaves a file on the board (firmware/rotation.py) and keys in the registries."""
    board = Board(patient.port)
    board.probe()
    root = bytes.fromhex(json.loads("".join(board._exec("print(open('/device.json').read())")))["root"])
    before = patient.up()["epoch"]
    with open_site(patient.site, create=False) as site, site.changing() as change:
        change.add_epoch(patient.eui, root, before + 1, [before])
    board.probe()
    head = struct.pack(">IIi", before + 1, before, 0)
    inner = pad(derive(root, patient.eui, before, "lab")[1])[0]
    board.copy({"/epoch": head + struct.pack(">I", crc32(head + inner))}, lambda _: None)
    report = patient.up()
    assert (report["changed"], report["verified"], report["epoch"]) == (False, True, before + 1)
    assert faults(patient.examine()) == {}
    patient.request = replace(patient.request, new_identity=True)
    assert patient.up()["epoch"] > before + 1
    board.probe()
    assert board.digests(["/epoch"]) == {"/epoch": ""}  # another identity's


def test_files_copied_from_another_board_are_a_clone(patient) -> None:
    assert "cloned-identity" in faults(patient.examine(eui=bytes.fromhex("0200000000000099")))
