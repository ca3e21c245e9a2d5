"""Identities: registries that agree with the device, a new root each time, and what is refused."""

import json
import socket
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.store import Store as EdgeStore
from firmware import config
from firmware.counter import slot
from firmware.keys import derive
from gateway.events import Accepted, Rejected
from gateway.outbox import Message, Offered
from gateway.outbox import Store as Outbox
from gateway.outbox.store import Work
from gateway.receiver import Receiver
from models.bundle import Bundle
from provisioning.device_files import write_device_root
from provisioning.emulated import find_interpreter
from provisioning.errors import ProvisionError
from provisioning.eui64 import from_unique_id
from provisioning.identity import (
    EDGE_FILE,
    GATEWAY_FILE,
    PUBLIC_FILE,
    SIGNING_FILE,
    DeviceOptions,
    Site,
    create_device,
)
from security import chain, seal
from security.chain import KeyedChain
from security.registry import EdgeRegistry, GatewayRegistry
from security.signed import Gate, VerifyKey
from security.trust import PaperTrust
from wire import lowpan
from wire.eui64 import link_local
from wire.message import PORT, Kind, octet0

REPOSITORY = Path(__file__).parents[2]
EUI, GATEWAY = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000ff")
YEAR_2023, NOW, YEAR_2100 = 1_700_000_000, 1_763_880_000, 4_102_444_800


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("fashion-mnist")


def test_the_device_and_both_registries_hold_the_same_keys(tmp_path) -> None:
    settings = create_device(tmp_path, eui=EUI, name="pump", site="north field")
    checked = config.check(settings)
    mine = derive(checked["root"], checked["eui64"], checked["epoch"], checked["site"])
    gateway = GatewayRegistry.load(tmp_path / GATEWAY_FILE)
    edge = EdgeRegistry.load(tmp_path / EDGE_FILE)
    assert (gateway.site, gateway.gateway) == ("north field", checked["gateway"])
    assert gateway.devices[EUI].name == edge.devices[EUI].name == "pump"
    frag, msg = gateway.devices[EUI].epochs[settings["epoch"]], edge.devices[EUI].epochs[settings["epoch"]]
    assert [frag.frag_up, frag.frag_dn, msg.msg_up, msg.msg_dn] == list(mine[:4])
    for file in (GATEWAY_FILE, EDGE_FILE):
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600
        assert settings["root"] not in (tmp_path / file).read_text()


def test_a_second_identity_has_a_new_root_and_a_later_epoch(tmp_path) -> None:
    first = create_device(tmp_path, eui=EUI)
    other = create_device(tmp_path)
    second = create_device(tmp_path, eui=EUI)
    assert first["root"] != second["root"]
    assert YEAR_2023 < first["epoch"] <= other["epoch"] < YEAR_2100
    assert first["epoch"] < second["epoch"] < YEAR_2100
    edge = EdgeRegistry.load(tmp_path / EDGE_FILE)
    assert list(edge.devices[EUI].epochs) == [second["epoch"]]
    assert len(edge.devices) == 2
    assert edge.version == GatewayRegistry.load(tmp_path / GATEWAY_FILE).version == 3


def test_a_site_made_anew_gives_a_device_no_epoch_that_it_had(tmp_path) -> None:
    """Nothing of the first site is left but what its services remember: used counters by device and epoch."""
    settings, sites = [], []
    for number, now in enumerate((NOW, NOW + 1)):
        with Site.open(tmp_path / str(number), gateway=GATEWAY) as site:
            settings.append(site.new_identity(EUI, now=now))
            site.enrol(settings[-1])
            sites.append((site.gateway, site.edge))
    sealed = [_sealed(edge, one) for (_, edge), one in zip(sites, settings, strict=True)]
    with closing(Outbox(tmp_path)) as store, EdgeStore(tmp_path / "edge") as answered:
        for (gateway, edge), one, (octet, body) in zip(sites, settings, sealed, strict=True):
            # The gateway: started anew with its registry and its outbox.
            receiver = Receiver(gateway, KeyedChain(), PaperTrust())
            for (device, epoch), flat in store.used().items():
                receiver.restore_used(device, epoch, flat)
            (message,) = receiver.on_frame(_frame(gateway, one, octet, body), 0.0)
            assert isinstance(message, Accepted)
            assert message.epoch == one["epoch"]
            (held,) = store.commit(Work(offered=[Offered(EUI, message.epoch, 1, octet, 0.0, body)])).committed
            assert isinstance(held, Message)
            # The edge server, likewise.
            keys = edge.devices[EUI].epochs[message.epoch]
            assert seal.open_up(keys, EUI, octet, 1, body) == b"latent"
            assert not answered.used(EUI, message.epoch, 1)
            answered.commit([(EUI, message.epoch, 1, b"answer")])
    # What was recorded of the first site opens nothing in the second.
    receiver = Receiver(sites[1][0], KeyedChain(), PaperTrust())
    (refused,) = receiver.on_frame(_frame(sites[0][0], settings[0], *sealed[0]), 0.0)
    assert isinstance(refused, Rejected)


def _sealed(edge: EdgeRegistry, settings: dict) -> tuple[int, bytes]:
    epoch = settings["epoch"]
    octet = octet0(Kind.DATA, epoch)
    return octet, seal.seal_up(edge.devices[EUI].epochs[epoch], EUI, octet, 1, b"latent")


def _frame(gateway: GatewayRegistry, settings: dict, octet: int, sealed: bytes) -> bytes:
    """The one frame of message 1."""
    keys = gateway.devices[EUI].epochs[settings["epoch"]]
    ends = link_local(EUI), link_local(GATEWAY)
    rooms = {"single_room": 98, "first_room": 88, "slice_room": 96}
    (payload,) = chain.make(keys.frag_up, EUI, *ends, octet0=octet, counter=1, sealed=sealed, **rooms)
    (frame,) = lowpan.udp_frames(EUI, GATEWAY, PORT, PORT, payload, 1, 0, 0x23F0)
    return frame.emit()


def test_a_clock_that_was_never_set_gives_a_random_epoch(tmp_path) -> None:
    with Site.open(tmp_path) as site:
        wrong = (0.0, 12.5, YEAR_2023 - 1, 2.0**32 - 1, 2.0**33)
        drawn = {site.first_epoch(EUI, now) for now in wrong for _ in range(3)}
        assert len(drawn) == 15
        assert all(0 <= epoch < YEAR_2023 for epoch in drawn)
        assert site.first_epoch(EUI, YEAR_2100 + 0.9) == YEAR_2100


def test_a_clock_far_ahead_leaves_epochs_for_a_device(tmp_path) -> None:
    with Site.open(tmp_path) as site:
        for now in (2.0**33, NOW):
            site.enrol(site.new_identity(EUI, now=now))
        assert list(site.gateway.devices[EUI].epochs) == [NOW]


def test_an_epoch_is_later_than_those_known_whatever_the_clock_says(tmp_path) -> None:
    with Site.open(tmp_path) as site:
        for now in (NOW, NOW, NOW - 1000, 0.0):
            before = max(site.gateway.devices[EUI].epochs, default=0) if EUI in site.gateway.devices else 0
            settings = site.new_identity(EUI, now=now)
            assert settings["epoch"] > before
            site.enrol(settings)
        assert list(site.gateway.devices[EUI].epochs) == [NOW + 3]


def test_one_site_has_one_name_and_one_gateway(tmp_path) -> None:
    create_device(tmp_path, site="a")
    with pytest.raises(ProvisionError, match="is the site 'a'"):
        create_device(tmp_path, site="b")
    with pytest.raises(ProvisionError, match="the gateway of"):
        create_device(tmp_path, site="a", gateway=EUI)


def test_half_a_site_is_refused(tmp_path) -> None:
    create_device(tmp_path)
    (tmp_path / EDGE_FILE).unlink()
    with pytest.raises(ProvisionError, match="but no edge-registry"):
        create_device(tmp_path)


@pytest.mark.parametrize("eui", ["0000000000000000", "0300000000000001", "0200"])
def test_what_is_no_device_address_is_refused(tmp_path, eui) -> None:
    with pytest.raises(ProvisionError, match="cannot be a device's EUI-64"):
        create_device(tmp_path, eui=bytes.fromhex(eui))


def test_a_device_is_not_its_gateway(tmp_path) -> None:
    with pytest.raises(ProvisionError, match="gateway's own"):
        create_device(tmp_path, gateway=EUI, eui=EUI)


def test_a_gateway_file_that_cannot_be_written_leaves_the_edge_file_as_it_was(tmp_path, monkeypatch) -> None:
    create_device(tmp_path, eui=EUI)
    before = EdgeRegistry.load(tmp_path / EDGE_FILE).devices
    with Site.open(tmp_path) as site:
        settings = site.new_identity(EUI)
        site.directory = tmp_path
        (tmp_path / GATEWAY_FILE).unlink()
        (tmp_path / GATEWAY_FILE).mkdir()
        (tmp_path / GATEWAY_FILE / "in the way").write_text("")
        with pytest.raises(Exception, match="cannot be written"):
            site.enrol(settings)
    assert EdgeRegistry.load(tmp_path / EDGE_FILE).devices == before


def test_a_site_only_thought_of_leaves_nothing(tmp_path) -> None:
    with Site.open(tmp_path / "site", create=False) as site:
        assert site.new_identity(EUI, now=NOW)["epoch"] == NOW
    assert not (tmp_path / "site").exists()


def test_a_device_directory_is_what_the_firmware_runs_on(tmp_path, bundle) -> None:
    x, _ = bundle.camera()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        link = {**DeviceOptions().link, "port": gateway.getsockname()[1]}
        options = DeviceOptions(link=link, order=True, period_ms=20, deadline_ms=20, retries=0)
        settings = create_device(tmp_path / "site", options=options)
        root = write_device_root(tmp_path / "dev", bundle, settings, x[:5], [4, 0, 2])
        command = [find_interpreter(), "-X", "heapsize=192k", "-m", "firmware.main", str(root), "1"]
        done = subprocess.run(command, env={"MICROPYPATH": str(REPOSITORY)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    log = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    sent = [line for line in log if line["e"] == "sent"]
    assert log[0]["model"] == bundle.headfile.model_tag
    assert [line["img"] for line in sent[:4]] == [4, 0, 2, 4]
    assert [line["c"] for line in sent[:2]] == [1, 2]
    assert stat.S_IMODE((root / "device.json").stat().st_mode) == 0o600


def test_writing_again_replaces_identity_counters_and_log(tmp_path, bundle) -> None:
    root = tmp_path / "dev"
    for _ in range(2):
        settings = create_device(tmp_path / "site", eui=EUI)
        write_device_root(root, bundle, settings)
        assert config.load(str(root / "device.json"))["epoch"] == settings["epoch"]
        assert (root / "counter.a").read_bytes() == slot(1)
        assert not (root / "log.jsonl").exists()
        (root / "counter.a").write_bytes(slot(65))
        (root / "log.jsonl").write_text("{}")


def test_images_of_another_shape_are_refused(tmp_path, bundle) -> None:
    settings = create_device(tmp_path)
    with pytest.raises(ProvisionError, match=r"uint8 of shape \(1\.\.65535, 28, 28, 1\)"):
        write_device_root(tmp_path / "dev", bundle, settings, np.zeros((3, 14, 14, 1), np.uint8))
    with pytest.raises(ProvisionError, match="names an image that is not there"):
        write_device_root(tmp_path / "dev", bundle, settings, order=[0, 5000])
    with pytest.raises(ProvisionError, match="name no order"):
        write_device_root(tmp_path / "dev", bundle, settings, order=[0])


def test_a_mac_becomes_the_eui64_that_ieee_maps_it_to() -> None:
    assert from_unique_id(bytes.fromhex("24 6f 28 aa bb cc")).hex() == "246f28fffeaabbcc"
    assert from_unique_id(b"") is None
    assert from_unique_id(bytes(12)) is None


@given(st.binary(min_size=1, max_size=16).filter(any))
def test_any_other_number_makes_a_device_address_the_same_each_time(number) -> None:
    eui = from_unique_id(number)
    assert eui == from_unique_id(number)
    assert len(eui) == 8
    assert not eui[0] & 1
    assert len(number) == 6 or eui[0] & 2


def test_the_settings_survive_json(tmp_path) -> None:
    settings = create_device(tmp_path, options=DeviceOptions(wifi={"ssid": "s", "key": "k"}, log=""))
    checked = config.check(json.loads(json.dumps(settings)))
    assert checked["wifi"] == {"ssid": "s", "key": "k"}
    assert checked["root"].hex() == settings["root"]


def test_an_edge_file_that_cannot_be_written_takes_the_gateways_back_under_a_newer_version(tmp_path) -> None:
    create_device(tmp_path, eui=EUI)
    before = GatewayRegistry.load(tmp_path / GATEWAY_FILE)
    with Site.open(tmp_path) as site:
        settings = site.new_identity(EUI)
        (tmp_path / EDGE_FILE).unlink()
        (tmp_path / EDGE_FILE).mkdir()
        (tmp_path / EDGE_FILE / "in the way").write_text("")
        with pytest.raises(Exception, match="cannot be written"):
            site.enrol(settings)
    after = GatewayRegistry.load(tmp_path / GATEWAY_FILE)
    assert after.devices == before.devices
    assert after.version == before.version + 2  # a gateway may have read the one between


def test_a_site_signs_with_a_key_of_its_own(tmp_path) -> None:
    create_device(tmp_path, eui=EUI)
    public = VerifyKey.load(tmp_path / PUBLIC_FILE)
    create_device(tmp_path, eui=EUI)
    assert VerifyKey.load(tmp_path / PUBLIC_FILE) == public
    GatewayRegistry.load(tmp_path / GATEWAY_FILE, Gate("gateway", public))
    EdgeRegistry.load(tmp_path / EDGE_FILE, Gate("edge", public))
    assert stat.S_IMODE((tmp_path / SIGNING_FILE).stat().st_mode) == 0o600
    (tmp_path / SIGNING_FILE).chmod(0o640)
    with pytest.raises(ProvisionError, match="readable by others"):
        create_device(tmp_path)
