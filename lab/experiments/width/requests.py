"""What becomes of each request at each width: computed for all of them before any policy runs.

A request is a sample, one of the bundle's own images. The device runs the head, sends the message's frames,
the gateway gives custody, the edge server answers; all frames share one channel. Requests do not wait for one
another: one that is not answered when the next is due is given up. So what happens to request t at width w
does not depend on what was chosen before, and every policy meets the same coin flips (paired runs).

Frames have the lengths of docs/protocol.md with EUI-64 addresses, the spaces around them and the retries of
`lab.sim.medium`. The radio's currents are those of an AT86RF233 (Microchip data sheet 8351, 3 V: sending 13.8
mA at +4 dBm, receiving 11.8 mA), the head's that of an ESP32-S3 at 240 MHz (40 mA).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edge_server.width import WidthOption
from lab.experiments.width.links import Fading, Floats, Link
from lab.experiments.width.queue import STEP
from lab.sim.loss import LossModel
from models.bundle import Bundle
from models.head import Head
from wire import rans
from wire.ieee802154 import room
from wire.message import MAC_LENGTH, Cut, FrameRooms, header_length
from wire.reply import CUSTODY_LENGTH

Ints = npt.NDArray[np.int64]

TRIES = 4  # 1 and macMaxFrameRetries
_MAC_BYTES = 23  # two EUI-64s, one PAN, FCS
_PHY_BYTES = 6
_SLOTS, _SLOT_BITS = 8, 80
AFTER_BITS = 136 + 160  # turnaround and ack, LIFS
_HEADERS = 6  # IPv6 and UDP, compressed
CUSTODY_BYTES = _MAC_BYTES + _HEADERS + CUSTODY_LENGTH
ANSWER_BYTES = _MAC_BYTES + _HEADERS + header_length(0) + MAC_LENGTH + 8 + 10 + 8  # salt, answer, tag

_COMMIT, _UPLINK, _TAIL = 0.005, 0.010, 0.003  # seconds: group commit, gateway to edge, one tail batch
#: From the gateway to the answer on the air, waiting left out.
SERVER_SECONDS = _COMMIT + _UPLINK + _TAIL + _UPLINK
_TX_MW, _RX_MW, _HEAD_MW = 3.0 * 13.8, 3.0 * 11.8, 3.0 * 40.0


@dataclass(frozen=True)
class Model:
    """A bundle, as the link sees it.

    Attributes:
        widths: (W,).
        accuracy: (W,) measured top-1.
        coded: (W,) mean bytes of coded symbols; `coded_each` (I, W) of each image.
        head_seconds: (W,).
        frames: (I, W) frames of each image at each width.
        lengths: (I, W, F) bytes of each frame with FCS; 0 where there is none.
    """

    widths: tuple[float, ...]
    accuracy: Floats
    coded: Floats
    coded_each: Ints
    head_seconds: Floats
    frames: Ints
    lengths: Ints

    def options(self) -> tuple[WidthOption, ...]:
        """As the edge server makes them of the bundle."""
        frames = self.frames.mean(0).clip(1)
        return tuple(
            WidthOption(w, float(a), float(f), float(c), float(h))
            for w, a, f, c, h in zip(
                self.widths, self.accuracy, frames, self.coded, self.head_seconds, strict=True
            )
        )

    @classmethod
    def of(cls, bundle: Bundle, mmac_per_s: float, images: int = 192) -> "Model":
        """Run the head and coder over the bundle's test images; a device does `mmac_per_s` million MAC/s."""
        head, x = Head(bundle.headfile), bundle.camera()[0][:images]
        coded = np.array(
            [
                [len(rans.encode(row, width.tables)) for row in head.run(x, i)]
                for i, width in enumerate(bundle.headfile.widths)
            ]
        ).T
        columns = [[frame_lengths(size) for size in column] for column in coded.T.tolist()]
        most = max(len(lengths) for column in columns for lengths in column)
        lengths = np.zeros((len(x), len(columns), most), np.int64)
        for w, column in enumerate(columns):
            for i, each in enumerate(column):
                lengths[i, w, : len(each)] = each
        return cls(
            tuple(float(w["width"]) for w in bundle.widths),
            np.array([float(w["top1"]) for w in bundle.widths]),
            coded.mean(0),
            coded,
            np.array([w["macs"] / (mmac_per_s * 1e6) for w in bundle.widths]),
            (lengths > 0).sum(2),
            lengths,
        )


@lru_cache(maxsize=1024)
def frame_lengths(coded: int) -> tuple[int, ...]:
    """Bytes of each frame, FCS included, of a message with `coded` bytes of symbols."""
    cut = Cut.plan(6 + coded + 8, *FrameRooms.of(room(bytes(8), bytes(8))))
    if cut.n == 0:
        return (_MAC_BYTES + _HEADERS + cut.payload_length,)
    rest = cut.payload_length - cut.first
    slices = [min(8 * cut.step, rest - i * 8 * cut.step) for i in range(cut.n)]
    return (_MAC_BYTES + 4 + _HEADERS + cut.first, *(_MAC_BYTES + 5 + s for s in slices))


@dataclass(frozen=True)
class Plan:
    """How requests come: a period in seconds, how many, how their link fades, and when it is out."""

    period: float = 1.0
    count: int = 600
    loss: LossModel = field(default_factory=LossModel)
    outage: tuple[float, float] | None = None

    @property
    def seconds(self) -> float:
        """Length of the run."""
        return self.period * self.count


@dataclass(frozen=True)
class Outcomes:
    """All requests (T) of one run at all widths (W). inf: never.

    Attributes:
        at: (T,) seconds.
        seconds: (T, W) from the sample to its answer.
        arrived: (T, W) whether the edge server got the message.
        reported: (T, W) from the first frame to the custody ack, or to the answer if that was first: what
            the device reports.
        waited: (T,) the server's waiting time when the request came in.
        coded: (T, W) bytes of its coded symbols.
        frames: (T, W) frames of the message; `sent` with its retries, as far as they got.
        energy: (T, W) mJ, head and radio.
        kbps, bad: (T,) the link when the sample was taken: what an oracle knows.
    """

    at: Floats
    seconds: Floats
    arrived: npt.NDArray[np.bool_]
    reported: Floats
    waited: Floats
    coded: Ints
    frames: Ints
    sent: Ints
    energy: Floats
    kbps: Floats
    bad: npt.NDArray[np.bool_]

    def on_time(self, deadline: float) -> npt.NDArray[np.bool_]:
        """(T, W) whether the answer came within `deadline` seconds of the sample."""
        return self.seconds <= deadline


class _Radio:
    """Frames over a link, many requests at once; keeps what they cost."""

    def __init__(self, link: Link, fading: Fading, uniform: Floats, backoff: Floats, end: Floats) -> None:
        self._link, self._fading = link, fading
        self._uniform, self._backoff, self._end = uniform, backoff, end
        self.sent = np.zeros(end.shape, np.int64)
        self.air = np.zeros(end.shape)

    def frame(self, number: int, length: Ints, start: Floats) -> tuple[Floats, Floats]:
        """Frame `number` of each exchange: (when it was heard, when the channel is free); inf: not at all.

        Entries whose length is 0, or whose start is not before the end of their period, send nothing.
        """
        heard, free = np.full(start.shape, np.inf), start.copy()
        todo = np.flatnonzero((length > 0) & (start < self._end))
        for attempt in range(TRIES):
            if not len(todo):
                break
            request = todo // self._end.shape[1] if self._end.ndim == 2 else todo
            bits = _SLOT_BITS * self._backoff[request, number, attempt] + 8.0 * (
                _PHY_BYTES + length.flat[todo]
            )
            begin = free.flat[todo]
            over = self._link.after(begin, bits)
            free.flat[todo] = self._link.after(over, AFTER_BITS)
            self.sent.flat[todo] += 1
            self.air.flat[todo] += over - begin
            ok = self._uniform[request, number, attempt] >= self._fading.loss(over)
            heard.flat[todo[ok]] = over[ok]
            todo = todo[~ok]
        return heard, free


def simulate(link: Link, model: Model, plan: Plan, waits: Floats, seed: int) -> Outcomes:
    """Every request at every width.

    Args:
        link: at least plan.seconds long.
        waits: (S,) the server's waiting time in seconds, every `queue.STEP` s.
        seed: of images, back-off, fading and loss.
    """
    rng = np.random.default_rng([seed, 1])
    n, most = plan.count, model.lengths.shape[2]
    fading = Fading(plan.loss, rng, plan.seconds + 60, plan.outage)
    images = rng.integers(len(model.lengths), size=n)
    uniform = rng.random((n, most + 2, TRIES))
    backoff = rng.integers(_SLOTS, size=(n, most + 2, TRIES)).astype(float)
    at: Floats = plan.period * np.arange(n, dtype=float)
    lengths = model.lengths[images]
    shape = lengths.shape[:2]
    end = np.broadcast_to((at + plan.period)[:, None], shape)
    up, down = (_Radio(link, fading, uniform, backoff, end) for _ in range(2))
    first = at[:, None] + model.head_seconds[None, :]
    free, complete = first, np.zeros(shape)
    for f in range(most):
        length = lengths[:, :, f]
        heard, free = up.frame(f, length, free)
        complete = np.where(length > 0, np.maximum(complete, heard), complete)
    full = np.isfinite(complete)
    there = np.where(full, complete, 0.0)
    begin = np.where(full, np.maximum(there + _COMMIT, free), np.inf)
    custody, free = down.frame(most, np.full(shape, CUSTODY_BYTES), begin)
    arrived = there + _COMMIT + _UPLINK
    waited = _at(waits, arrived)
    ready = np.where(full, np.maximum(arrived + waited + _TAIL + _UPLINK, free), np.inf)
    answer, _ = down.frame(most + 1, np.full(shape, ANSWER_BYTES), ready)
    custody, answer = (np.where(t < end, t, np.inf) for t in (custody, answer))
    busy = _TX_MW * up.air + _RX_MW * (
        np.minimum(np.minimum(answer, end) - first, plan.period) - up.air
    ).clip(0)
    return Outcomes(
        at,
        answer - at[:, None],
        full & (arrived < end),
        np.minimum(custody, answer) - first,
        _at(waits, at),
        model.coded_each[images],
        model.frames[images],
        up.sent,
        busy + _HEAD_MW * model.head_seconds[None, :],
        link.kbps(at),
        fading.bad(at),
    )


def _at(waits: Floats, times: Floats) -> Floats:
    found: Floats = waits[np.minimum((times / STEP).astype(np.int64), len(waits) - 1)]
    return found
