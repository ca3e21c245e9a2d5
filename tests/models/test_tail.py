"""The tail of the shipped bundle: any mix of widths and any batch size gives the same answers."""

import numpy as np
import pytest

from models.bundle import Bundle
from models.errors import BundleError
from models.head import Head


@pytest.fixture(scope="module")
def bundle():
    return Bundle.load("fashion-mnist")


@pytest.fixture(scope="module")
def latents(bundle):
    """Latents of camera images, widths taking turns."""
    x, _ = bundle.camera()
    head = Head(bundle.headfile)
    by_width = [head.run(x[:80], i) for i in range(4)]
    return [(i % 4, by_width[i % 4][i]) for i in range(80)]


def test_a_batch_answers_like_single_requests(bundle, latents):
    tail = bundle.tail()
    together = tail.run(latents)
    assert together.shape == (80, 10)
    assert together.dtype == np.float32
    alone = np.concatenate([tail.run([latent]) for latent in latents])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("size", [0, 1, 3, 63, 65])
def test_every_batch_size_works(bundle, latents, size):
    tail = bundle.tail()
    assert np.array_equal(tail.run(latents[:size]), tail.run(latents)[:size])


@pytest.mark.parametrize("width_index", range(4))
def test_answers_are_as_right_as_the_bundle_says(bundle, width_index):
    x, y = bundle.camera()
    symbols = Head(bundle.headfile).run(x, width_index)
    top1 = float((bundle.tail().run([(width_index, row) for row in symbols]).argmax(1) == y).mean())
    figure = bundle.widths[width_index]["top1"]
    # the 512 images are part of those measured: four standard errors
    assert top1 == pytest.approx(figure, abs=4 * (figure * (1 - figure) / 512) ** 0.5)


def test_latents_that_do_not_fit_are_refused(bundle, latents):
    tail = bundle.tail()
    with pytest.raises(BundleError, match="no width 4; expected 0 to 3"):
        tail.run([(4, latents[0][1])])
    with pytest.raises(BundleError, match=r"a latent of width 3 has shape .*; expected"):
        tail.run([(3, latents[0][1])])
