"""The same width for everybody, whatever the link does (`--policy fixed-0.5`)."""

from collections.abc import Sequence

from edge_server.width.types import Choice, Sample, WidthOption


class FixedWidth:
    """Tells every device the option nearest to `width`."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._last: dict[bytes, Choice] = {}

    def observe(self, device: bytes, sample: Sample) -> None:
        """Nothing to learn."""

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The option nearest to the fixed width."""
        index = min(range(len(options)), key=lambda i: abs(options[i].width - self.width))
        self._last[device] = Choice(
            now, index, options[index].width, f"the policy is fixed at {self.width:g}"
        )
        return index

    def explain(self, device: bytes) -> list[Choice]:
        """The last choice."""
        return [self._last[device]] if device in self._last else []
