"""What a run showed: the figures, from the devices' own logs, the gateway's counters and the air's record;
and their table.

Terms. `sent`: distinct messages a device put on the air (a retry is the same message). `answers`: those of
them whose answer the device opened. `lost`: acknowledged and never answered: the device verified a custody
ack (committed or already, docs/protocol.md §2.3), and the edge server's own record, read when everything has
come to rest, lacks the message. An answer that got lost on its way down is not among them; messages that
were given up (`unanswered`) are the figure to look at.

`forged.accepted`: messages that the gateway delivered although no device sealed those bytes under that
counter: the SHA-256 of every delivered message is looked up in the devices' logs. `forged.sent`: attacker's
frames that were really transmitted, replays included; `sent_at_open`: those transmitted between the first and
the last fragment of a genuine datagram of the same source, destination, size and tag. `downlink_accepted`:
downlink fragments the devices accepted beyond the gateway's own ones that reached them, plus answers to
messages that the gateway never delivered.

`on_time`: messages answered within the deadline, of all sent. `utility`: mean over the messages sent of the
bundle's own accuracy at their width where on time, else 0.
"""

import json
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

_CUSTODY = {"committed", "already"}


@dataclass(frozen=True)
class Delivered:
    """A message the gateway handed on.

    Device EUI-64 in hex, counter, first 16 hex digits of SHA-256(sealed).
    """

    device: str
    counter: int
    sealed: str


@dataclass
class Air:
    """Totals of the air's record."""

    forged: int = 0
    forged_at_open: int = 0
    #: The gateway's fragments that reached the device they were addressed to, by the device's EUI-64 in hex.
    downlink: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)


@dataclass
class DeviceLog:
    """The events a device wrote, and what they add up to so far. Feed it with `add`."""

    eui: str
    runtime: str = ""
    #: Whether it is behind a broker instead of on the air.
    wifi: bool = False
    #: Bytes of the interpreter's heap; 0 where it has no fixed one.
    heap: int = 0
    ended: bool = False
    sent: dict[int, dict[str, Any]] = field(default_factory=dict)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    custody: set[int] = field(default_factory=set)
    unanswered: set[int] = field(default_factory=set)
    sealed: set[tuple[int, str]] = field(default_factory=set)
    attempts: int = 0
    rx: dict[str, Any] = field(default_factory=lambda: {"accepted": 0, "rejected": {}})

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one line of log.jsonl."""
        kind = event["e"]
        if kind == "start":
            self.runtime = str(event["runtime"])
            self.heap = int(event.get("heap", 0))
        elif kind == "sent":
            counter = int(event["c"])
            self.attempts += 1
            self.sent.setdefault(counter, dict(event))
            self.sealed.add((counter, str(event["sealed"])))
        elif kind == "answer":
            self.answers.setdefault(int(event["c"]), dict(event))
        elif kind == "custody" and event["status"] in _CUSTODY:
            self.custody.add(int(event["c"]))
        elif kind == "lost":
            self.unanswered.add(int(event["c"]))
        elif kind == "rx":
            self.rx = {"accepted": int(event["accepted"]), "rejected": dict(event["rejected"])}
        elif kind == "end":
            self.ended = True

    def hits(self, deadline_ms: float) -> list[tuple[int, bool]]:
        """Of each message in the order sent: its width in thousandths, whether its answer came in time."""
        late = {"ms": math.inf}
        return [
            (int(self.sent[c]["w"]), float(self.answers.get(c, late)["ms"]) <= deadline_ms)
            for c in sorted(self.sent)
        ]

    @property
    def switches(self) -> int:
        """How often the width changed from one message to the next."""
        widths = [int(self.sent[c]["w"]) for c in sorted(self.sent)]
        return sum(a != b for a, b in pairwise(widths))


class LogReader:
    """Reads a growing JSON-lines file; a last line that is still being written waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterable[dict[str, Any]]:
        """The objects written since the last call; nothing while there is no file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rpartition(b"\n")[0]
        self._offset += len(whole) + (1 if whole else 0)
        for line in whole.splitlines():
            if line.strip():
                yield json.loads(line)


def build(
    *,
    seconds: float,
    deadline_ms: float,
    logs: Sequence[DeviceLog],
    labels: Sequence[int] | None,
    widths: Mapping[int, float],
    delivered: Sequence[Delivered],
    answered: Container[tuple[str, int]],
    accepted_fragments: int,
    rejected: Mapping[str, int],
    air: Air,
    published: int = 0,
) -> dict[str, Any]:
    """The object `slimwire demo --json` prints.

    Args:
        seconds: how long the devices sent.
        deadline_ms: from a message's first frame to its answer, to count as on time.
        logs: one per device, complete.
        labels: class of every image of the camera, by index; None of pictures without.
        widths: the bundle's own top-1 (0..1) by width in thousandths.
        delivered: everything the gateway handed on.
        answered: EUI-64 in hex and counter of every message in the edge server's record.
        accepted_fragments: uplink fragments the gateway verified.
        rejected: fragments the gateway refused, by reason.
        air: totals of the air's record.
        published: fragments of replies that the gateway published to Wi-Fi devices.
    """
    per: dict[int, list[tuple[dict[str, Any], bool]]] = {}
    for log in logs:
        for counter in log.answers.keys() & log.sent.keys():
            sent = log.sent[counter]
            hit = labels is not None and int(log.answers[counter]["cls"]) == labels[int(sent["img"])]
            per.setdefault(int(sent["w"]), []).append((sent, hit))
    answers = sum(len(items) for items in per.values())
    right = sum(ok for items in per.values() for _, ok in items)
    expected = sum(len(items) * widths[w] for w, items in per.items()) / answers if answers else 0.0
    low, high = binomial_interval(answers, expected, 0.99)
    hits = [hit for log in logs for hit in log.hits(deadline_ms)]
    latencies = sorted(float(a["ms"]) for log in logs for a in log.answers.values())
    genuine = {(log.eui, counter, sealed) for log in logs for counter, sealed in log.sealed}
    known = {(d.device, d.counter) for d in delivered}
    return {
        "devices": len(logs),
        "wifi": sum(log.wifi for log in logs),
        "seconds": seconds,
        "runtime": ", ".join(sorted({log.runtime for log in logs})),
        # What the interpreter was given; of that, 1 % goes to the collector's own tables.
        "heap_kib": max((math.ceil(log.heap / 1024) for log in logs), default=0) or None,
        "sent": sum(len(log.sent) for log in logs),
        "answers": answers,
        "lost": sum((log.eui, counter) not in answered for log in logs for counter in log.custody),
        "unanswered": sum(len(log.sent.keys() - log.answers.keys()) for log in logs),
        "retries": sum(log.attempts - len(log.sent) for log in logs),
        "top1": None if labels is None else round(right / answers, 4) if answers else 0.0,
        "top1_expected": round(expected, 4),
        "top1_interval99": [round(low, 4), round(high, 4)],
        "widths": {
            f"{w / 1000:g}" if w % 1000 else f"{w / 1000:.1f}": {
                "answers": len(items),
                "top1": None if labels is None else round(sum(ok for _, ok in items) / len(items), 4),
                "bytes": round(sum(int(sent["bytes"]) for sent, _ in items) / len(items), 2),
                "frames": round(sum(int(sent["frames"]) for sent, _ in items) / len(items), 2),
            }
            for w, items in sorted(per.items())
        },
        "switches": sum(log.switches for log in logs),
        "deadline_ms": deadline_ms,
        "on_time": round(sum(hit for _, hit in hits) / len(hits), 4) if hits else 0.0,
        "utility": round(sum(widths[w] * hit for w, hit in hits) / len(hits), 4) if hits else 0.0,
        "latency_ms": {"p50": _rank(latencies, 0.5), "p99": _rank(latencies, 0.99)},
        "fragments": {"accepted": accepted_fragments, "rejected": dict(sorted(rejected.items()))},
        "downlink": {
            "accepted": sum(log.rx["accepted"] for log in logs),
            "rejected": dict(sorted(sum((Counter(log.rx["rejected"]) for log in logs), Counter()).items())),
        },
        "forged": {
            "sent": air.forged,
            "accepted": sum((d.device, d.counter, d.sealed) not in genuine for d in delivered),
            "sent_at_open": air.forged_at_open,
            "downlink_accepted": sum(
                (0 if log.wifi else max(0, log.rx["accepted"] - air.downlink[log.eui]))
                + sum((log.eui, counter) not in known for counter in log.answers)
                for log in logs
            )
            + max(0, sum(log.rx["accepted"] for log in logs if log.wifi) - published),
            "by_kind": dict(sorted(air.by_kind.items())),
        },
    }


def binomial_interval(n: int, p: float, coverage: float) -> tuple[float, float]:
    """The central interval of Binomial(n, p)/n.

    At most (1 − coverage)/2 of the probability lies below, and as much above.
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - coverage) / 2
    low, below = n, 0.0
    high = n
    for k in range(n + 1):
        below += _binomial(n, k, p)
        if below > tail:
            low = min(low, k)
        if below >= 1 - tail:
            high = k
            break
    return low / n, high / n


def _binomial(n: int, k: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return float(k == (0 if p <= 0 else n))
    log = (
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    return math.exp(log)


def _rank(ordered: Sequence[float], share: float) -> float | None:
    """Nearest-rank quantile; None of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def table(result: Mapping[str, Any]) -> Table:
    """The figures for a person."""
    out = Table(
        title=f"{result['devices']} devices"
        + (f", {result['wifi']} of them on Wi-Fi" if result["wifi"] else "")
        + f", {result['seconds']:g} s, {result['runtime']}",
        show_header=False,
    )
    out.add_column(style="bold")
    out.add_column()
    answered = f"{result['answers']} of {result['sent']} messages"
    out.add_row(
        "answered",
        f"{answered}, {result['unanswered']} given up, {result['lost']} lost after an acknowledgement",
    )
    low, high = result["top1_interval99"]
    known = result["top1"] is not None
    out.add_row(
        "right",
        f"{result['top1']:.1%} (the bundle's own figure for this mix: {result['top1_expected']:.1%}, "
        f"99 % interval {low:.1%} to {high:.1%})"
        if known
        else f"not known: {result['camera']} without classes",
    )
    for width, item in result["widths"].items():
        out.add_row(
            f"  width {width}",
            f"{item['answers']} answers, "
            + (f"{item['top1']:.1%} right, " if known else "")
            + f"{item['bytes']:.0f} B in {item['frames']:.1f} frames",
        )
    out.add_row("width changes", str(result["switches"]))
    latency = result["latency_ms"]
    if latency["p50"] is not None:
        out.add_row(
            "latency", f"{latency['p50']:.0f} ms median, {latency['p99']:.0f} ms at the 99th percentile"
        )
    out.add_row(
        "on time",
        f"{result['on_time']:.1%} within {result['deadline_ms']:g} ms; with the widths' own accuracy, "
        f"{result['utility']:.3f} right in time",
    )
    out.add_row("fragments", f"{result['fragments']['accepted']} accepted by the gateway")
    for reason, count in result["fragments"]["rejected"].items():
        out.add_row("  refused", f"{count} {reason}")
    down = result["downlink"]
    overheard = down["rejected"].get("foreign", 0)
    refused = sum(down["rejected"].values()) - overheard
    out.add_row(
        "downlink",
        f"{down['accepted']} fragments accepted by devices, {refused} refused, "
        f"{overheard} overheard for others",
    )
    forged = result["forged"]
    verdict = "red" if forged["accepted"] or forged["downlink_accepted"] else "green"
    out.add_row(
        "forged frames",
        f"{forged['sent']} on the air, {forged['sent_at_open']} of them at an open datagram; "
        f"[{verdict}]{forged['accepted']} accepted, {forged['downlink_accepted']} by devices[/{verdict}]",
    )
    return out
