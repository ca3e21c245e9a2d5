"""The edge server's registry: followed at once, only what the site signed, and the epoch it orders."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.enrolled import LOOK_EVERY, ORDER_AFTER, Enrolled
from edge_server.errors import EdgeError
from edge_server.ingest import Ingest
from edge_server.store import Store
from edge_server.tails import Tails
from edge_server.width import FixedWidth
from security.keys import derive_edge
from security.registry import Device, EdgeRegistry
from security.signed import SigningKey
from wire.batch import Verdict

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))


class Site:
    """Writes the registry of one device, one version after the other."""

    def __init__(self, directory: Path, sender) -> None:
        self.path = directory / "edge-registry.json"
        self.sender = sender
        self.version = 0

    def write(self, *epochs: int, signer: SigningKey | None = KEY, version: int | None = None, revoked=False):
        self.version = self.version + 1 if version is None else version
        keys = {epoch: derive_edge(self.sender.root, self.sender.eui, epoch) for epoch in epochs}
        devices = {self.sender.eui: Device(self.sender.eui, "", keys, revoked)}
        EdgeRegistry(self.version, devices).save(self.path, signer)


@pytest.fixture
def site(tmp_path: Path, sender) -> Site:
    return Site(tmp_path, sender)


@pytest.fixture
def ingest(bundle) -> Callable[..., Ingest]:
    def make(enrolled: Enrolled) -> Ingest:
        return Ingest(enrolled, Tails((str(bundle.path),)), Store(), FixedWidth(bundle.widths[0]["width"]))

    return make


def test_revoked_from_the_next_batch_on(site: Site, sender, ingest) -> None:
    site.write(sender.epoch)
    server = ingest(Enrolled(site.path, key=KEY.public.raw.hex()))
    (answer,) = server.batch([sender.item(1)], 100.0, 0.0)
    assert answer.verdict == Verdict.ANSWERED
    site.write(sender.epoch, revoked=True)
    (answer,) = server.batch([sender.item(2)], 100.0 + 2 * LOOK_EVERY, 0.0)
    assert answer.verdict == Verdict.REVOKED


def test_what_is_not_signed_or_older_is_counted_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    site.write(4, version=3)
    enrolled = Enrolled(site.path, key=KEY.public.raw.hex(), state=tmp_path / "state")
    now = 100.0
    for signer, version, reason in (
        (None, 4, "registry-unsigned"),
        (OTHER, 4, "registry-wrong-key"),
        (KEY, 2, "registry-rollback"),
    ):
        site.write(4, 5, signer=signer, version=version)
        now += 2 * LOOK_EVERY
        enrolled.look(now)
        assert enrolled.refused[reason] == 1
        assert enrolled.problem
        assert enrolled.registry.version == 3
    with pytest.raises(EdgeError, match="was accepted before"):
        Enrolled(site.path, key=KEY.public.raw.hex(), state=tmp_path / "state")


def test_a_newer_epoch_is_ordered_once_the_gateway_had_time_to_read_it(site: Site, sender, ingest) -> None:
    site.write(4)
    server = ingest(Enrolled(site.path))
    clock = 100.0

    def order(counter: int, device=sender) -> int | None:
        (answer,) = server.batch([device.item(counter)], clock, 0.0)
        assert answer.verdict == Verdict.ANSWERED
        return device.open(counter, answer.sealed).next_epoch

    assert order(1) is None
    site.write(4, 5)
    clock += 2 * LOOK_EVERY
    assert order(2) is None
    clock += ORDER_AFTER
    assert [order(3), order(4)] == [5, 5]  # as long as it speaks in the old one
    assert order(5, sender._replace(epoch=5)) is None
    # A restarted server orders at once: what it reads at its start is not new.
    server = ingest(Enrolled(site.path))
    assert order(6) == 5


def test_one_counter_in_two_epochs_is_two_messages(site: Site, sender, ingest) -> None:
    site.write(4, 5)
    server = ingest(Enrolled(site.path))
    verdicts = [
        server.batch([device.item(9)], 100.0, 0.0)[0].verdict
        for device in (sender, sender._replace(epoch=5), sender, sender._replace(epoch=5))
    ]
    assert verdicts == [Verdict.ANSWERED, Verdict.ANSWERED, Verdict.ALREADY, Verdict.ALREADY]
