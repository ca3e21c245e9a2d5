"""The models this server has: bundles by model tag, warmed up, and one tail batch of any widths each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_server.errors import EdgeError
from edge_server.width import WidthOption
from models.bundle import Bundle, shipped
from models.errors import BundleError
from models.head import Head


@dataclass(frozen=True, slots=True)
class Prediction:
    """A tail's word on one latent.

    Attributes:
        cls: class index.
        confidence: softmax probability of that class, 0..1.
        probabilities: (K,) float32, of every class.
    """

    cls: int
    confidence: float
    probabilities: npt.NDArray[np.float32]


def options_of(bundle: Bundle, device_mmac_per_s: float = 0.0) -> tuple[WidthOption, ...]:
    """A bundle's widths as the controller sees them; million MAC/s of the devices' heads, 0: not known."""
    return tuple(
        WidthOption(
            w["width"],
            w["top1"],
            max(1.0, w["frames"]["mean"]),
            w["bytes"]["mean"],
            w["macs"] / (device_mmac_per_s * 1e6) if device_mmac_per_s else 0.0,
        )
        for w in bundle.widths
    )


class Served:
    """One bundle, ready: its tail has run once at every width. Not thread-safe: one worker thread.

    Args:
        bundle: as loaded.
        device_mmac_per_s: million MAC/s of the devices' heads, for width control; 0: not known.
    """

    def __init__(self, bundle: Bundle, device_mmac_per_s: float = 0.0) -> None:
        self.bundle = bundle
        self.headfile = bundle.headfile
        self.tables = [width.tables for width in bundle.headfile.widths]
        self.head = Head(bundle.headfile)
        self.options = options_of(bundle, device_mmac_per_s)
        self._tail = bundle.tail()
        blank = [np.full(t.n, bundle.headfile.center, np.uint8) for t in self.tables]
        self.run(list(enumerate(blank)))

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.bundle.name

    @property
    def model_tag(self) -> int:
        """What messages of this bundle's head carry."""
        return self.headfile.model_tag

    def run(self, latents: Sequence[tuple[int, npt.NDArray[np.uint8]]]) -> list[Prediction]:
        """One tail batch: (width index, (n,) uint8 symbols) each, any mix of widths."""
        logits = self._tail.run(list(latents))
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
        best = probabilities.argmax(axis=1)
        return [Prediction(int(k), float(p[k]), p) for k, p in zip(best.tolist(), probabilities, strict=True)]


class Tails:
    """Every bundle served, by model tag.

    Args:
        names: bundle names or paths; empty: every shipped one.
        device_mmac_per_s: see `Served`.

    Raises:
        EdgeError: a bundle is unknown or bad, or two share a model tag.
    """

    def __init__(self, names: Sequence[str] = (), device_mmac_per_s: float = 0.0) -> None:
        self._by_tag: dict[int, Served] = {}
        for name in names or shipped():
            try:
                served = Served(Bundle.load(name), device_mmac_per_s)
            except BundleError as error:
                raise EdgeError(
                    f"the bundle {name!r} cannot be served: {error}",
                    remedy="name a bundle that ships or a bundle's directory; `slimwire train` makes one",
                ) from error
            other = self._by_tag.get(served.model_tag)
            if other is not None:
                raise EdgeError(
                    f"the bundles {other.name!r} and {name!r} have the same model tag {served.model_tag:04x}",
                    remedy="serve only one of them: a device's messages could not be told apart",
                )
            self._by_tag[served.model_tag] = served
        if not self._by_tag:
            raise EdgeError("there is no bundle to serve", remedy="name one: --bundle DIRECTORY")

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_tag.values())

    def get(self, model_tag: int) -> Served | None:
        """The bundle whose head carries this tag."""
        return self._by_tag.get(model_tag)

    def named(self, name: str | None) -> Served:
        """The bundle of this name; the first one for None. Raises EdgeError for an unknown name."""
        for served in self:
            if name is None or served.name == name:
                return served
        raise EdgeError(
            f"no bundle {name!r} is served here", expected="one of " + ", ".join(s.name for s in self)
        )
