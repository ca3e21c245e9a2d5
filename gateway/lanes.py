"""Which message is next for one edge server: what is new, and what has waited. Pure.

Two lanes, each in the order in which its messages were committed, so that each device's order holds in each:

- live: what came while the edge server took messages; in memory. Devices of full standing go first; what a
  device sends while something of its own waits there goes behind that, whatever its standing is by then.
- backlog: everything else, such as what is there at the start or came while the server was away; on the disk,
  read a page at a time, so that memory does not grow with it.

While both have something a batch is three quarters live, one quarter backlog: a backlog does not hold up what
is new, and what is new does not hold up a backlog for ever. When the server is away, or more is live than
memory should hold, all that is live joins the backlog, behind what is there.

What a device sealed with keys that the server has not (`hold`) is in neither lane: it stays on the disk, and
of it only the range of its ids is in memory, until `known`.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import chain, islice

from gateway.outbox.rows import Message
from security.trust import Standing

#: A device, and the key epoch that it sealed with.
Spoken = tuple[bytes, int]

#: Part of a batch that the backlog gets while there is enough that is live.
_BACKLOG_SHARE = 4


class Lanes:
    """The two lanes.

    Args:
        live: messages in memory at most.
        last: the id of the last message committed before: everything up to it is backlog.
        mine: whether a device's messages go this way.
    """

    def __init__(self, live: int, last: int, mine: Callable[[bytes], bool] = lambda _: True) -> None:
        self._bound = live
        self._mine = mine
        self._first: OrderedDict[int, Message] = OrderedDict()
        self._later: OrderedDict[int, Message] = OrderedDict()
        #: How many of each device's messages are live: above zero in `_first`, below zero in `_later`.
        self._of: dict[bytes, int] = {}
        #: The backlog is what lies on the disk with ids above `_read` and up to `_until`, and `_page`.
        self._read, self._until = 0, last
        self._page: deque[Message] = deque()
        #: What is held: the lowest and the highest id that was met of it.
        self._held: dict[Spoken, tuple[int, int]] = {}

    @property
    def live(self) -> int:
        """Messages in the live lane."""
        return len(self._first) + len(self._later)

    @property
    def ready(self) -> int:
        """Messages that need no reading from the disk."""
        return self.live + len(self._page)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._first or self._later or self._page or self._read < self._until)

    def put(self, message: Message, standing: Standing) -> None:
        """Enter a message that was just committed; ids only ever rise."""
        if self._held and self._holds(message):
            return
        waiting = self._of.get(message.device, 0)
        first = waiting > 0 or (waiting == 0 and standing is Standing.FULL)
        (self._first if first else self._later)[message.id] = message
        self._of[message.device] = waiting + (1 if first else -1)
        if self.live > self._bound:
            self.demote()

    def demote(self) -> None:
        """All that is live joins the backlog."""
        for lane in (self._first, self._later):
            if lane:
                self._read = min(self._read, next(iter(lane)) - 1)
                self._until = max(self._until, next(reversed(lane)))
        self._first.clear()
        self._later.clear()
        self._of.clear()

    def wanted(self, count: int) -> tuple[int, int, int] | None:
        """What to read from the disk before `head(count)`: ids above, ids up to, how many; None: nothing."""
        if len(self._page) >= count or self._read >= self._until:
            return None
        return self._read, self._until, count

    def read(self, asked: tuple[int, int, int], found: Iterable[Message], last: int | None) -> None:
        """Take the page that `wanted` asked for; `last`: the highest id in it, None if it was empty."""
        if self._read == asked[0]:
            self._read = asked[1] if last is None else last
        there = {message.id for message in self._page}
        for message in found:
            known = message.id in there or message.id in self._first or message.id in self._later
            if not known and self._mine(message.device) and not self._holds(message):
                self._page.append(message)

    def head(self, count: int) -> list[Message]:
        """The next `count` messages; they stay until `done`."""
        waiting = len(self._page)
        old = min(waiting, max(count // _BACKLOG_SHARE, count - self.live, 1 if waiting else 0))
        new = islice(chain(self._first.values(), self._later.values()), count - old)
        return [*new, *islice(self._page, old)]

    def done(self, ids: Iterable[int]) -> None:
        """These left, or are to be left alone for now."""
        gone = set(ids)
        for one in gone:
            message = self._first.pop(one, None) or self._later.pop(one, None)
            if message is not None:
                left = self._of.pop(message.device)
                left -= 1 if left > 0 else -1
                if left:
                    self._of[message.device] = left
        if any(message.id in gone for message in self._page):
            self._page = deque(message for message in self._page if message.id not in gone)

    def again(self, message: Message) -> None:
        """Put a message that was left alone back, in front of the backlog."""
        self._page.appendleft(message)

    def hold(self, *messages: Message) -> None:
        """The server has no keys for these: nothing of their devices and key epochs is next until `known`."""
        names = set(map(spoken_of, messages))
        for message in messages:
            self._held.setdefault(spoken_of(message), (message.id, message.id))
        own = [
            one for one in chain(self._first.values(), self._later.values(), self._page) if self._holds(one)
        ]
        self.done(one.id for one in own if spoken_of(one) in names)

    def known(self, spoken: Spoken) -> None:
        """The server has the keys now: what was held is backlog, in its order."""
        lowest, highest = self._held.pop(spoken)
        # What lies in between and is in memory, or held for other keys, is passed over once more.
        self._read = min(self._read, lowest - 1)
        self._until = max(self._until, highest)

    def _holds(self, message: Message) -> bool:
        """Whether it is held; notes that it was met."""
        spoken = spoken_of(message)
        span = self._held.get(spoken)
        if span is None:
            return False
        self._held[spoken] = min(span[0], message.id), max(span[1], message.id)
        return True


def spoken_of(message: Message) -> Spoken:
    """Whose keys, and which, open it."""
    return message.device, message.epoch
