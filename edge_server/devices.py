"""What the edge server knows of each device's last message, and what a link report says about it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from edge_server.width import Sample
from wire.latent import LinkReport

#: A larger jump of the counter is a restart (counters are reserved in blocks), not that many losses.
MAX_GAP = 8


@dataclass(slots=True)
class DeviceLog:
    """The newest message of one device.

    Attributes:
        counter: its counter; `epoch` its key epoch.
        width: width it was made at, e.g. 0.5; None where the model is unknown.
        next_width: width the device was told to use next; None before the first answer.
        frames: frames it took on the air; `coded` bytes of symbols in them.
        index: of its width in its model; `waited` seconds it waited in this server.
        report: what the device reported in it.
        heard_at: when it came, Unix time.
        answered: messages answered since this server started.
    """

    counter: int
    epoch: int
    frames: int
    coded: int
    index: int
    waited: float
    report: LinkReport
    heard_at: float
    width: float | None = None
    next_width: float | None = None
    answered: int = field(default=0)


class Devices:
    """The log of every device heard; bounded by the registry, since only an opened seal gets here."""

    def __init__(self) -> None:
        self._logs: dict[bytes, DeviceLog] = {}

    def __iter__(self) -> Iterator[tuple[bytes, DeviceLog]]:
        return iter(list(self._logs.items()))

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, device: bytes) -> DeviceLog | None:
        """The device's log, or None if it was never heard."""
        return self._logs.get(device)

    def told(self, device: bytes, counter: int, *, width: float, next_width: float) -> None:
        """Note that the message was answered with a next width."""
        log = self._logs[device]
        log.answered += 1
        if counter == log.counter:
            log.width, log.next_width = width, next_width

    def heard(
        self,
        device: bytes,
        epoch: int,
        counter: int,
        *,
        frames: int,
        coded: int = 0,
        index: int = -1,
        waited: float = 0.0,
        report: LinkReport,
        now: float,
        unix_time: float,
    ) -> list[Sample]:
        """Note a new message and return what it says about the messages before it.

        The report speaks of the counter before, whose frames were noted when it came. Skipped counters are
        messages that never arrived, and the report is of the last of them: it adds nothing. An older message
        than the newest says nothing.

        Args:
            frames, coded, index, waited: of this message, as in `DeviceLog`.
            now: s, the controller's clock. unix_time: s, for people.
        """
        last = self._logs.get(device)
        if last is None or epoch != last.epoch:
            self._logs[device] = DeviceLog(
                counter,
                epoch,
                frames,
                coded,
                index,
                waited,
                report,
                unix_time,
                answered=last.answered if last else 0,
            )
            return []
        gap = counter - last.counter - 1
        if gap < 0:
            return []
        samples = []
        if 0 < gap <= MAX_GAP:
            samples = [Sample(now, inf, last.frames, battery=report.battery)] * gap
        elif gap == 0 and report.duration_ms:
            samples = [
                Sample(
                    now,
                    report.duration_ms / 1000,
                    last.frames,
                    report.retries,
                    last.coded,
                    last.waited,
                    last.index,
                    report.battery,
                )
            ]
        last.counter, last.frames, last.coded, last.index = counter, frames, coded, index
        last.waited, last.report, last.heard_at = waited, report, unix_time
        return samples
