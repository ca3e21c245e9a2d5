"""What a person sees while the demo runs.

A live page on a terminal, a line every few seconds otherwise. Always on stderr.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 60
_LINE_EVERY = 5.0


@dataclass
class Device:
    """A device's state at a moment, its last messages oldest first.

    `right` is None where the pictures have no classes.
    `widths` in thousandths; `hits` whether each answer came within the deadline, but the newest's.
    """

    name: str
    sent: int = 0
    answers: int = 0
    right: int | None = 0
    last: str = ""
    trust: float | None = None
    widths: Sequence[int] = ()
    hits: Sequence[bool] = ()


@dataclass
class State:
    """All that is shown."""

    elapsed: float
    seconds: float
    devices: list[Device]
    all_widths: Sequence[int]
    rate: float
    rejected: Mapping[str, int] = field(default_factory=dict)
    forged: int = 0
    forged_at_open: int = 0
    accepted: int = 0


class View(Protocol):
    """Shows a run while it goes on."""

    def __enter__(self) -> "View": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """Say what happens before there is a state to show."""

    def show(self, state: State) -> None:
        """Show the state of now."""


def make(console: Console) -> View:
    """The view that fits where `console` writes to."""
    return LiveView(console) if console.is_terminal else LineView(console)


class LineView:
    """Plain progress, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def __enter__(self) -> "LineView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, state: State) -> None:
        """A line, at most every few seconds."""
        if state.elapsed < self._next:
            return
        self._next = state.elapsed + _LINE_EVERY
        widths = Counter(w for device in state.devices for w in device.widths)
        self.note(
            f"{state.elapsed:5.1f}/{state.seconds:g} s  link {state.rate:3.0f} kb/s"
            f"  answers {sum(d.answers for d in state.devices)}/{sum(d.sent for d in state.devices)}"
            f"  widths {' '.join(f'{w / 1000:g}:{n}' for w, n in sorted(widths.items())) or '-'}"
            f"  on time {_share(state)}"
            f"  forged {state.forged}  refused {sum(state.rejected.values())}"
        )


class LiveView:
    """A page that redraws itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(Text(""), console=console, refresh_per_second=4, transient=True)
        self._rates: deque[float] = deque(maxlen=_HISTORY)
        self._notes: deque[str] = deque(maxlen=4)
        self._drawn = 0.0

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """The last few lines of what is being prepared."""
        self._notes.append(text)
        self._live.update(Panel(Text("\n".join(self._notes)), title="slimwire demo"))

    def show(self, state: State) -> None:
        """Redraw, a few times a second at most."""
        if time.monotonic() - self._drawn < 0.2:
            return
        self._drawn = time.monotonic()
        self._rates.append(state.rate)
        self._live.update(
            Panel(
                Group(self._link(state), _devices(state), _refused(state)),
                title=f"slimwire demo  {state.elapsed:4.1f} / {state.seconds:g} s",
                subtitle="Ctrl-C ends it",
            )
        )

    def _link(self, state: State) -> Text:
        top = max(*self._rates, 1.0)
        bars = "".join(_BARS[min(int(rate / top * len(_BARS)), len(_BARS) - 1)] for rate in self._rates)
        return Text.assemble(
            ("radio  ", "bold"), (bars, "cyan"), f"  {state.rate:.0f} kb/s  on time {_share(state)}"
        )


def _share(state: State) -> str:
    """Of the devices' last messages, how many were answered in time."""
    hits = [hit for device in state.devices for hit in device.hits]
    return f"{sum(hits) / len(hits):.0%}" if hits else "-"


def _hit(device: Device, place: int) -> bool | None:
    """Whether the message shown at `place` was on time; None for the newest, which may yet be."""
    missing = len(device.widths) - 1 - len(device.hits)
    return device.hits[place - missing] if missing <= place < len(device.widths) - 1 else None


def _devices(state: State) -> Table:
    out = Table(expand=True)
    for heading in (
        "device",
        "sent",
        "answered",
        "right",
        "last answer",
        "trust",
        "widths of the last messages",
    ):
        out.add_column(heading, no_wrap=True)
    for device in state.devices:
        share = "–" if device.right is None or not device.answers else f"{device.right / device.answers:.0%}"
        trust = "–" if device.trust is None else f"{device.trust:.2f}"
        colours = {True: "cyan", False: "red", None: "dim"}
        widths = Text.assemble(
            *(
                (_bar(state.all_widths, w), colours[_hit(device, place)])
                for place, w in enumerate(device.widths)
            )
        )
        out.add_row(
            device.name,
            str(device.sent),
            str(device.answers),
            share,
            device.last,
            trust,
            widths,
        )
    legend = "  ".join(f"{_bar(state.all_widths, w)} {w / 1000:g}" for w in state.all_widths)
    out.caption = f"width {legend}; red: late"
    return out


def _bar(widths: Sequence[int], width: int) -> str:
    place = sorted(widths).index(width) if width in widths else 0
    return _BARS[min((place + 1) * len(_BARS) // max(len(widths), 1), len(_BARS)) - 1]


def _refused(state: State) -> Text:
    reasons = "  ".join(
        f"{reason} {count}" for reason, count in sorted(state.rejected.items(), key=lambda item: -item[1])
    )
    return Text.assemble(
        ("attacker  ", "bold"),
        f"{state.forged} forged frames on the air, {state.forged_at_open} at open datagrams, ",
        (f"{state.accepted} accepted", "bold red" if state.accepted else "bold green"),
        ("\nrefused   ", "bold"),
        reasons or "nothing yet",
    )
