"""What Prometheus reads: computed from the service's own counters when it asks."""

import math
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.reasons import Reason
from gateway.service import Service
from security.trust import Standing
from wire.reply import CustodyStatus

_TRUST_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class ServiceCollector(Collector):
    """Reads one running service. Names and labels are stable."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """One snapshot."""
        service = self._service
        receiver, outbox = service.receiver, service.outbox
        age, hours = outbox.age(), outbox.hours_left()
        custody = CounterMetricFamily(
            "slimwire_gateway_custody", "Custody acks sent, by status", labels=["status"]
        )
        for status in (each.name.lower() for each in CustodyStatus):
            custody.add_metric([status], service.downlink.custody.get(status, 0))
        yield custody
        away = GaugeMetricFamily(
            "slimwire_gateway_edge_away", "1 while an edge server does not take messages", labels=["server"]
        )
        unknown = GaugeMetricFamily(
            "slimwire_gateway_edge_unknown",
            "Devices and key epochs whose messages wait: the edge server has no keys for them",
            labels=["server"],
        )
        for courier in service.uplink.couriers:
            away.add_metric([courier.bus.description], courier.away)
            unknown.add_metric([courier.bus.description], len(courier.unknown))
        yield away
        yield unknown
        dropped = CounterMetricFamily(
            "slimwire_gateway_dropped", "What was dropped, by reason", labels=["reason"]
        )
        met = service.rejected()
        for reason in sorted(met.keys() | set(Reason)):
            dropped.add_metric([reason], met.get(reason, 0))
        yield dropped
        yield from self._legs()
        yield self._trust()
        for name, text, value in (
            ("fragments", "Fragments that authenticated", receiver.fragments),
            ("messages", "Messages that passed admission", receiver.messages),
            ("delivered", "Messages the edge server took", service.uplink.delivered),
            ("batches", "Batches the edge server took", service.uplink.batches),
            ("committed", "Messages that came into custody", outbox.committed),
            ("commits", "Transactions of the outbox", outbox.commits),
            ("answers", "Answers sent to devices", service.downlink.sent),
            ("answer_frames", "Frames they took", service.downlink.frames),
        ):
            yield CounterMetricFamily(f"slimwire_gateway_{name}", text, value=value)
        for name, text, level in (
            ("devices", "Devices in the registry", len(receiver.peers)),
            ("quarantined", "Devices in quarantine", self._quarantined()),
            ("memory_bytes", "Bytes of unfinished datagrams and early fragments", receiver.memory_used),
            ("memory_bound_bytes", "What memory_bytes never exceeds", receiver.memory_bound),
            ("outbox_messages", "Messages in custody", outbox.messages),
            ("outbox_bytes", "Their size", outbox.bytes),
            ("outbox_bound_bytes", "What outbox_bytes never exceeds", outbox.bound),
            ("outbox_oldest_seconds", "How long the oldest of them is here", age or 0.0),
            (
                "outbox_hours_left",
                "How long the room left lasts if nothing leaves and as much comes as lately",
                math.inf if hours is None else hours,
            ),
            ("outbox_writable", "0 while the disk refuses the outbox", not outbox.refusing),
            ("uplink_live", "Messages in memory for the edge servers", service.uplink.live),
            ("downlink_queue", "Answers that wait for the air", len(service.downlink)),
            ("uptime_seconds", "Seconds since the start", service.uptime),
        ):
            yield GaugeMetricFamily(f"slimwire_gateway_{name}", text, value=level)

    def _legs(self) -> Iterable[Metric]:
        """Frames and fragments of each leg; Prometheus makes rates of them."""
        received = CounterMetricFamily(
            "slimwire_gateway_leg_received", "Frames or fragments that came in", labels=["leg"]
        )
        sent = CounterMetricFamily(
            "slimwire_gateway_leg_sent", "Frames or fragments that went out", labels=["leg"]
        )
        up = GaugeMetricFamily("slimwire_gateway_leg_up", "1 while a leg works", labels=["leg"])
        for leg in self._service.link.legs():
            received.add_metric([leg.name], leg.received)
            sent.add_metric([leg.name], leg.sent)
            up.add_metric([leg.name], leg.up)
        return received, sent, up

    def _trust(self) -> Metric:
        """How many devices have at most so much trust."""
        levels = [
            self._service.trust.level(eui)
            for eui, peer in self._service.receiver.peers.items()
            if not peer.device.revoked
        ]
        buckets = [(str(top), sum(level <= top for level in levels)) for top in _TRUST_BUCKETS]
        found = HistogramMetricFamily("slimwire_gateway_trust", "Trust of the devices that are not revoked")
        found.add_metric([], [*buckets, ("+Inf", len(levels))], sum(levels))
        return found

    def _quarantined(self) -> int:
        receiver, now = self._service.receiver, time.monotonic()
        return sum(
            not peer.device.revoked and receiver.standing(eui, now) is Standing.QUARANTINE
            for eui, peer in receiver.peers.items()
        )


def registry(service: Service) -> CollectorRegistry:
    """A registry of its own per service, so that several can live in one process."""
    made = CollectorRegistry(auto_describe=False)
    made.register(ServiceCollector(service))
    return made


def exposition(made: CollectorRegistry) -> bytes:
    """Prometheus's text format."""
    return generate_latest(made)
