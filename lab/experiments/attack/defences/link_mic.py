"""IEEE 802.15.4 security level 6 (ENC-MIC-64), with a key of the network or one for each pair.

A frame is looked at only if its MIC is right and its frame counter higher than any before from its source
(§9.2.3). Behind that: RFC 4944 in a pool as large as Slimwire's whole memory. An enrolled device that turned
knows the network's key, and so speaks for everybody; with pairwise keys only for itself.
"""

from collections import Counter

from lab.experiments.attack.defences.base import (
    Delivered,
    Fate,
    Settings,
    data_frame,
    first_headers,
    fragment,
)
from lab.experiments.attack.defences.pool import LARGEST, Pool
from lab.experiments.attack.formats import Format, Secured, open_secured


class LinkMic:
    """See the module."""

    def __init__(self, settings: Settings, fmt: Format) -> None:
        assert isinstance(fmt, Secured)
        self.counters: Counter[str] = Counter()
        self._pool = Pool(settings.memory, self.counters, fmt)
        self._keys = {member.eui: fmt.key_of(member) for member in settings.members}
        self._highest: dict[bytes, int] = {}

    @property
    def used(self) -> int:
        """See `Defence`."""
        return self._pool.used

    @property
    def bound(self) -> int:
        """See `Defence`."""
        return self._pool.memory

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`: none."""
        return None

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: nobody listens."""

    def tick(self, now: float) -> None:
        """See `Defence`."""
        self._pool.expire(now)

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        mac = data_frame(frame)
        if mac is None:
            return self._pool.refuse("malformed")
        assert mac.src is not None
        key = self._keys.get(mac.src)
        if key is None:
            return self._pool.refuse("stranger")
        opened = open_secured(mac, key)
        if opened is None:
            return self._pool.refuse("bad-mic")
        counter, payload = opened
        highest = self._highest.get(mac.src, 0)
        if counter <= highest:
            # A link-layer retry is the last frame once more.
            return self._pool.refuse("duplicate" if counter == highest else "frame-counter")
        self._highest[mac.src] = counter
        part = fragment(payload)
        if part is None or not 48 <= part.size <= LARGEST:
            return self._pool.refuse("malformed")
        name = (mac.src, part.size, part.tag)
        if not part.first:
            return self._pool.fill(name, part, number, now)
        first = first_headers(payload, mac)
        return self._pool.refuse("malformed") if first is None else self._pool.open(name, first, number, now)
