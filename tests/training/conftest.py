"""A recipe and data small enough to train in a second: is the bright spot left or right, above or below?"""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny():
    """(recipe, split): 8×8 images of four classes, two widths."""
    torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
    from training.data import Split
    from training.recipe import CONV, DEPTHWISE, POINTWISE, Layer, Recipe, Target

    torch.set_num_threads(1)
    recipe = Recipe(
        name="tiny",
        data="tiny",
        input=(8, 8, 1),
        widths=(0.5, 1.0),
        layers=(
            Layer(CONV, 2, (4, 8)),
            Layer(DEPTHWISE, 2, (4, 8)),
            Layer(POINTWISE, 1, (8, 12)),
            Layer(POINTWISE, 1, (2, 4), relu=False),
        ),
        targets=(Target(2.0, 4.0), Target(4.0, 8.0)),
        tail=((8, 1), (16, 1)),
        teacher=((8, 1), (16, 1), (16, 1)),
        levels=8,
        center=4,
        epochs=12,
        batch=32,
        rate=6e-3,
        shift=1,
        flip=False,
        teacher_epochs=10,
        teacher_rate=0.1,
        erase=4,
    )
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 640)
    x = rng.integers(0, 60, (640, 8, 8, 1)).astype(np.uint8)
    for image, label in zip(x, y, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[top : top + 3, left : left + 3] += np.uint8(150)
    return recipe, Split(x[:512], y[:512], x[512:], y[512:])


@pytest.fixture(scope="session")
def tiny_data(tiny):
    """The same as `training.data.Data`; there is no more to test on than the validation images."""
    from training.data import Data

    _, split = tiny
    about = {"name": "Tiny", "licence": "none", "source": "drawn"}
    return Data(split, split.valid_x.copy(), split.valid_y.copy(), ("a", "b", "c", "d"), about)


@pytest.fixture(scope="session")
def ensemble(tiny):
    """The tiny recipe as a slimmable ensemble of two encoders."""
    from dataclasses import replace

    from training.recipe import CONV, POINTWISE, Layer

    recipe, _ = tiny
    layers = (
        Layer(CONV, 2, (4, 8)),
        Layer(CONV, 2, (8, 16)),
        Layer(POINTWISE, 1, (4, 4), relu=False),
    )
    return replace(recipe, layers=layers, members=2)
