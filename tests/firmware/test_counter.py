"""No power cut makes the device use a counter twice."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.counter import BLOCK, Counter, slot
from firmware.errors import SettingsError


class PowerCutError(Exception):
    pass


class Flash:
    """Two files on a medium that forgets what was not flushed, or keeps any part of it, when the power goes.

    `budget`: steps (open, write, flush, close) until the cut. `keeps(n)`: how many of n unflushed bytes
    reach the medium.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.pending: tuple[str, bytes] | None = None
        self.budget = 10**9

    def step(self) -> None:
        if self.budget == 0:
            raise PowerCutError
        self.budget -= 1

    def cut(self, kept: float) -> None:
        """What is on the medium after the power went."""
        if self.pending:
            name, data = self.pending
            # Opening for writing truncates; the data follow, as far as they got.
            self.files[name] = data[: round(kept * len(data))]
        self.pending = None

    def flush(self, file: Handle) -> None:
        self.step()
        self.files[file.name] = file.getvalue()
        self.pending = None

    def open(self, name: str, mode: str) -> io.BytesIO:
        if mode == "rb":
            if name not in self.files:
                raise OSError(2, "no such file")
            return io.BytesIO(self.files[name])
        self.step()
        self.pending = (name, b"")
        return Handle(self, name)


class Handle(io.BytesIO):
    def __init__(self, flash: Flash, name: str) -> None:
        super().__init__()
        self.flash, self.name = flash, name

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.flash.step()
        super().write(data)
        self.flash.pending = (self.name, self.getvalue())
        return len(data)

    def __exit__(self, *args: object) -> None:
        self.flash.step()


def counter(flash: Flash) -> Counter:
    return Counter("/", flash.flush, flash.open)


ENROLLED = {"/counter.a": slot(1), "/counter.b": slot(1)}


def test_counting_starts_at_one_and_writes_once_a_block():
    flash = Flash(ENROLLED)
    made = counter(flash)
    writes = []
    for expected in range(1, 4 * BLOCK):
        before = flash.budget
        assert made.next() == expected
        if flash.budget != before:
            writes.append(expected)
    assert writes == [1, 1 + BLOCK, 1 + 2 * BLOCK, 1 + 3 * BLOCK]


lives = st.lists(
    st.tuples(st.integers(0, 2 * BLOCK + 5), st.integers(0, 12), st.floats(0, 1)), min_size=1, max_size=12
)


@given(lives)
def test_no_counter_is_used_twice_wherever_the_power_is_cut(lives):
    """Each life: how many counters are used, how many more steps the power lasts then, how much of a write
    is kept.
    """
    flash = Flash(ENROLLED)
    used: list[int] = []
    for count, budget, kept in lives:
        flash.budget = budget if count == 0 else 10**9
        try:
            made = counter(flash)
            for i in range(count + BLOCK + 1):
                if i == count:
                    flash.budget = budget
                used.append(made.next())
        except PowerCutError:
            pass
        flash.cut(kept)
    assert len(set(used)) == len(used)
    assert used == sorted(used)


def test_a_crash_at_every_message_costs_a_block_each_and_a_start_alone_nothing():
    flash = Flash(ENROLLED)
    numbers = []
    for _ in range(50):
        for _ in range(3):
            counter(flash)
        numbers.append(counter(flash).next())
    assert numbers == [1 + BLOCK * i for i in range(50)]


def test_a_slot_that_could_not_be_written_is_written_again_and_no_counter_is_skipped_or_repeated():
    """The device goes on after such an error (firmware/agent.py): the same object reserves the same block."""
    flash = Flash(ENROLLED)
    made = counter(flash)
    numbers = [made.next() for _ in range(BLOCK)]
    for budget in range(3):
        flash.budget = budget
        with pytest.raises(PowerCutError):
            made.next()
    flash.budget = 10**9
    numbers += [made.next() for _ in range(2 * BLOCK)]
    assert numbers == list(range(1, 3 * BLOCK + 1))


@given(st.integers(0, 3 * BLOCK), st.sampled_from(["/counter.a", "/counter.b"]), st.integers(0, 2 * BLOCK))
def test_a_slot_that_rots_or_goes_costs_a_block_and_no_more(first, lost, second):
    """Even the newer slot, and even one after the other, as long as the device started in between."""
    flash = Flash(ENROLLED)
    made = counter(flash)
    used = [made.next() for _ in range(first + 1)]
    flash.files[lost] = flash.files[lost][:7] + b"\xff" + flash.files[lost][8:]
    again = counter(flash)
    used += [again.next() for _ in range(second + 1)]
    other = "/counter.b" if lost == "/counter.a" else "/counter.a"
    del flash.files[other]
    last = counter(flash)
    used += [last.next() for _ in range(3)]
    assert len(set(used)) == len(used)
    assert used[-1] <= first + second + 7 + 6 * BLOCK


@pytest.mark.parametrize("content", [None, b"", slot(1)[:-1], slot(77)[:-1] + b"\0", bytes(12)])
def test_without_a_good_slot_the_device_refuses_and_says_what_to_do(content):
    files = {} if content is None else {"/counter.a": content, "/counter.b": content}
    with pytest.raises(SettingsError, match=r"does not send; expected at least one good slot.*enrol it anew"):
        counter(Flash(files))


def test_a_medium_that_fails_is_no_lost_file():
    def broken(name: str, mode: str) -> io.BytesIO:
        raise OSError(5, "input/output error")

    with pytest.raises(OSError, match="input/output"):
        Counter("/", lambda file: None, broken)


def test_the_last_counters_are_not_wrapped():
    flash = Flash({"/counter.a": slot(0xFFFFFFFF - BLOCK), "/counter.b": slot(1)})
    made = counter(flash)
    assert made.next() == 0xFFFFFFFF - BLOCK
    with pytest.raises(SettingsError, match="enrol"):
        [made.next() for _ in range(BLOCK)]


def test_the_slot_is_twelve_bytes_as_documented():
    assert slot(1).hex() == "53574e31" + "00000001" + "86ed36c9"
