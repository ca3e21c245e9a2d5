"""What the gateway handed on lately: a ring of messages to compare with the devices' own logs."""

import hashlib
from collections import deque
from itertools import islice
from typing import NamedTuple

#: Messages remembered.
LENGTH = 10_000


class Delivered(NamedTuple):
    """One message that passed admission.

    `seq` counts from 1; `sha256` is the first 16 hex digits of the hash of its sealed bytes.
    """

    seq: int
    device: str
    epoch: int
    counter: int
    sha256: str
    retry: bool


class Journal:
    """The last `LENGTH` delivered messages."""

    def __init__(self) -> None:
        self._ring: deque[Delivered] = deque(maxlen=LENGTH)
        self.seq = 0

    def add(self, device: bytes, epoch: int, counter: int, sealed: bytes, *, retry: bool) -> None:
        """Note one message."""
        self.seq += 1
        digest = hashlib.sha256(sealed).hexdigest()[:16]
        self._ring.append(Delivered(self.seq, device.hex(), epoch, counter, digest, retry))

    def since(self, seq: int) -> list[Delivered]:
        """Those after `seq`, oldest first; older ones than the ring holds are gone."""
        count = min(len(self._ring), max(0, self.seq - seq))
        return list(islice(self._ring, len(self._ring) - count, None))
