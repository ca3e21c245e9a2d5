"""One batch in, one batch out: open, check replay, decode, one tail batch, answer, seal, commit.

An item ends in exactly one verdict and never spoils another one. What opened gets an answer, even where its
model is unknown or its symbols do not decode, so that the device learns it. A counter that was answered
before gets the stored answer again and touches nothing else, the width controller included; so does a
question for it, which has no seal to open.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_server.devices import Devices
from edge_server.enrolled import Enrolled
from edge_server.errors import EdgeError
from edge_server.store import Store
from edge_server.tails import Prediction, Served, Tails
from edge_server.width import WidthPolicy
from models.errors import BundleError
from models.evaluate import frames
from security import seal
from security.errors import SealError
from security.keys import EdgeKeys
from slimwire import tracing
from wire import latent, rans
from wire.batch import AnswerItem, IngestItem, Verdict
from wire.errors import WireError
from wire.message import Kind, epoch_of, kind_of, octet0
from wire.reply import FULL_CONFIDENCE, Answer, Status

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Opened:
    """An item whose seal opened and whose counter is new."""

    place: int
    item: IngestItem
    epoch: int
    keys: EdgeKeys
    header: latent.InnerHeader | None
    coded: bytes
    served: Served | None = None
    symbols: npt.NDArray[np.uint8] | None = None
    prediction: Prediction | None = None


class Ingest:
    """Answers batches. One thread at a time.

    Args:
        enrolled: whose keys; tails: the models; store: what was answered; policy: the width controller.
        detail: whether answers carry the class's name as text (a few bytes more on the air).
    """

    def __init__(
        self, enrolled: Enrolled, tails: Tails, store: Store, policy: WidthPolicy, *, detail: bool = False
    ) -> None:
        self.enrolled = enrolled
        self.tails = tails
        self.store = store
        self.policy = policy
        self.devices = Devices()
        #: Items by verdict, since the start.
        self.verdicts: Counter[str] = Counter()
        #: Widths told to devices, since the start.
        self.widths: Counter[str] = Counter()
        self._detail = detail
        self._waited = 0.0

    def batch(
        self, items: Sequence[IngestItem], now: float, unix_time: float, waited: float = 0.0
    ) -> list[AnswerItem]:
        """Answer a batch, in its order.

        Args:
            items: as parsed from the request.
            now: s, monotonic: the controller's clock.
            unix_time: s, sent to devices in their answers.
            waited: s since the batch came in: the server's queue.
        """
        self.enrolled.look(now)
        self._waited = waited
        results: list[AnswerItem | None] = [None] * len(items)
        opened: list[_Opened] = []
        first: dict[tuple[bytes, int, int], int] = {}
        repeated: list[tuple[int, int]] = []
        for place, item in enumerate(items):
            outcome = self._open(place, item)
            if isinstance(outcome, AnswerItem):
                results[place] = outcome
                continue
            key = (item.device, outcome.epoch, item.counter)
            if key in first:
                repeated.append((place, first[key]))
                continue
            first[key] = place
            opened.append(outcome)
        self._decode(opened)
        self._predict(opened)
        commits = []
        for one in opened:
            result = self._answer(one, now, unix_time)
            results[one.place] = result
            if result.sealed:
                commits.append((one.item.device, one.epoch, one.item.counter, result.sealed))
        try:
            self.store.commit(commits)
        except EdgeError:
            log.exception("answers cannot be stored; the gateways may try again")
            for one in opened:
                results[one.place] = _verdict(one.item, Verdict.BUSY)
        for place, origin in repeated:
            same = results[origin]
            assert same is not None
            results[place] = same if same.verdict == Verdict.BUSY else same._replace(verdict=Verdict.ALREADY)
        for one in opened:
            told = results[one.place]
            if told is not None:
                said = Verdict(told.verdict).name.lower()
                tracing.step(f"edge: {said}", one.item.device, one.epoch, one.item.counter)
        done = [result for result in results if result is not None]
        self.verdicts.update(Verdict(result.verdict).name.lower() for result in done)
        return done

    def _open(self, place: int, item: IngestItem) -> _Opened | AnswerItem:
        registry = self.enrolled.registry
        device = registry.devices.get(item.device) if registry else None
        if device is None:
            return _verdict(item, Verdict.UNKNOWN_DEVICE)
        if device.revoked:
            return _verdict(item, Verdict.REVOKED)
        found = device.keys_for(epoch_of(item.octet0))
        if found is None or item.epoch not in (None, found[0]):  # None: a gateway that says two bits of it
            return _verdict(item, Verdict.UNKNOWN_DEVICE)
        epoch, keys = found
        if kind_of(item.octet0) is Kind.REPLY and not item.sealed:  # a question for the answer given before
            return _verdict(item, Verdict.ALREADY, self.store.answer(item.device, epoch, item.counter))
        if kind_of(item.octet0) is not Kind.DATA:
            return _verdict(item, Verdict.SEAL)
        try:
            plaintext = seal.open_up(keys, item.device, item.octet0, item.counter, item.sealed)
        except SealError:
            return _verdict(item, Verdict.SEAL)
        if self.store.used(item.device, epoch, item.counter):
            return _verdict(item, Verdict.ALREADY, self.store.answer(item.device, epoch, item.counter))
        try:
            header, coded = latent.parse(plaintext)
        except WireError:
            return _Opened(place, item, epoch, keys, None, b"")
        return _Opened(place, item, epoch, keys, header, coded)

    def _decode(self, opened: Sequence[_Opened]) -> None:
        """Find each item's model and symbols, all of one model and width together."""
        groups: dict[tuple[int, int], list[_Opened]] = {}
        for one in opened:
            if one.header is None:
                continue
            one.served = self.tails.get(one.header.model_tag)
            if one.served is not None and one.header.width < len(one.served.tables):
                groups.setdefault((one.header.model_tag, one.header.width), []).append(one)
        for (tag, width), members in groups.items():
            served = self.tails.get(tag)
            assert served is not None
            for one, symbols in zip(
                members, rans.decode_batch([m.coded for m in members], served.tables[width]), strict=True
            ):
                if not isinstance(symbols, WireError):
                    one.symbols = symbols

    def _predict(self, opened: Sequence[_Opened]) -> None:
        """One tail batch per model, widths mixed."""
        for served in self.tails:
            members = [one for one in opened if one.served is served and one.symbols is not None]
            if not members:
                continue
            latents = [
                (one.header.width, one.symbols) for one in members if one.header and one.symbols is not None
            ]
            try:
                predictions = served.run(latents)
            except (BundleError, RuntimeError, ValueError):
                log.exception(
                    "the tail of %s failed on %d latents; their gateway may try again",
                    served.name,
                    len(latents),
                )
                continue
            for one, prediction in zip(members, predictions, strict=True):
                one.prediction = prediction

    def _answer(self, one: _Opened, now: float, unix_time: float) -> AnswerItem:
        """Seal the answer to one item; `busy` where the tail could not say anything."""
        item, header, prediction = one.item, one.header, one.prediction
        if one.symbols is not None and prediction is None:
            return _verdict(item, Verdict.BUSY)
        if header is not None:
            self._listen(one, header, now, unix_time)
        verdict, status = Verdict.LATENT, Status.BAD_LATENT
        width = header.width if header else 0
        cls, confidence, detail = 0, 0, ""
        if header is not None and one.served is None:
            verdict, status = Verdict.UNKNOWN_MODEL, Status.UNKNOWN_MODEL
        elif header is not None and one.served is not None and prediction is not None:
            verdict, status = Verdict.ANSWERED, Status.ANSWERED
            width = self._next_width(item, header, one.served, now)
            cls, confidence = prediction.cls, round(prediction.confidence * FULL_CONFIDENCE)
            detail = one.served.bundle.classes[cls] if self._detail else ""
        order = self.enrolled.order(item.device, one.epoch, now)
        answer = Answer(width, status, cls, confidence, int(unix_time), detail, order)
        sealed = seal.seal_down(one.keys, octet0(Kind.REPLY, one.epoch), item.counter, answer.emit())
        return _verdict(item, verdict, sealed)

    def _listen(self, one: _Opened, header: latent.InnerHeader, now: float, unix_time: float) -> None:
        """Take in what the message says about the device's link."""
        samples = self.devices.heard(
            one.item.device,
            one.epoch,
            one.item.counter,
            frames=frames(len(one.coded)),
            coded=len(one.coded),
            index=header.width,
            waited=self._waited,
            report=header.report,
            now=now,
            unix_time=unix_time,
        )
        for sample in samples:
            self.policy.observe(one.item.device, sample)

    def _next_width(self, item: IngestItem, header: latent.InnerHeader, served: Served, now: float) -> int:
        """Ask the controller, and note what it says."""
        options = served.options
        index = self.policy.choose(item.device, options, header.width, now, header.report.queue, self._waited)
        chosen = options[index].width
        self.widths[f"{chosen:g}"] += 1
        self.devices.told(item.device, item.counter, width=options[header.width].width, next_width=chosen)
        return index


def _verdict(item: IngestItem, verdict: Verdict, sealed: bytes = b"") -> AnswerItem:
    return AnswerItem(item.device, item.octet0, item.counter, verdict, sealed)
