"""What an operator should do about how the gateway is, in sentences; nothing where all is well."""

from collections.abc import Iterator
from time import monotonic

from gateway.reasons import Reason
from gateway.service import Service

#: A device that nothing was ever accepted of, and so many fragments refused.
_SUSPECT = 3
#: s for which a source that is not enrolled counts as present.
_NEAR = 120.0
_NAMED = 3


def advise(service: Service) -> list[str]:
    """What is wrong, and what to do about it."""
    return [*_legs(service), *_outbox(service), *_registry(service), *_devices(service)]


def _legs(service: Service) -> Iterator[str]:
    for leg in service.link.legs():
        if not leg.up:
            yield f"the {leg.name} leg does not work: {leg.description}"


def _outbox(service: Service) -> Iterator[str]:
    outbox = service.outbox
    problems = service.uplink.problems()
    if problems:
        hours = outbox.hours_left()
        room = "" if hours is None else f", and there is room for {hours:.1f} h more"
        why = "; ".join(f"{url} does not take messages ({problem})" for url, problem in problems.items())
        yield (
            f"{why}: {outbox.messages} are in custody{room}; start the edge server, or correct `edge` and "
            "[uplink] in the settings"
        )
    peers = service.receiver.peers
    for url, unknown in service.uplink.unknown().items():
        ours, gone = set[str](), set[str]()
        for eui, epoch in unknown:
            if service.overtaken((eui, epoch)):
                continue  # let go as soon as the edge server says once more that it has no key
            known = eui in peers and epoch in peers[eui].device.epochs
            (ours if known else gone).add(eui.hex())
        if ours:
            yield (
                f"{url} has no keys for {_some(sorted(ours))}: what they send waits in the outbox; give that "
                "edge server the edge-registry.json that their enrolment wrote"
            )
        if gone:
            yield (
                f"{url} has no keys, nor has this gateway any more, for what {_some(sorted(gone))} sealed: "
                "that waits in the outbox until its custody ends; if it should be enrolled, give both the "
                "registries that its enrolment wrote"
            )
    if outbox.refusing:
        yield (
            "the disk refuses the outbox, devices are told `full`: make room, or mend the file system of "
            f"{service.settings.state_directory()}"
        )


def _registry(service: Service) -> Iterator[str]:
    problem = service.enrolment.problem
    if problem is not None:
        yield f"{service.enrolment.path} changed and is not used, the last good one is: {problem}"


def _devices(service: Service) -> Iterator[str]:
    receiver, now = service.receiver, monotonic()
    wrong = [
        eui.hex()
        for eui, peer in receiver.peers.items()
        if not peer.device.revoked and peer.messages == 0 and peer.rejected >= _SUSPECT
    ]
    if wrong and (receiver.counters[Reason.BAD_MAC] or receiver.counters[Reason.UNKNOWN_EPOCH]):
        yield (
            f"nothing of {_some(wrong)} verifies: its keys and those in {service.enrolment.path} differ, or "
            "somebody else uses its address; copy the registry that its enrolment wrote, or enrol it anew"
        )
    near = [source.hex() for source, at in receiver.strangers.items() if now - at <= _NEAR]
    if near:
        yield (
            f"{_some(near)} is heard and not enrolled here: enrol it with `slimwire provision`, or let it be "
            "if it is a neighbour's"
        )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
