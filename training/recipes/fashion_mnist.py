"""Fashion-MNIST, 28×28 grey, ten classes: a head of 0.5 MMAC and messages of one to three 802.15.4 frames.

A width is named after its share of the full head's work, not of its channels: the first layers are where a
narrow head loses most, and they cost little, so they keep half their channels at the narrowest.
"""

from training.recipe import CONV, DEPTHWISE, POINTWISE, Layer, Recipe, Target

FASHION_MNIST = Recipe(
    name="fashion-mnist",
    data="fashion-mnist",
    input=(28, 28, 1),
    widths=(0.25, 0.5, 0.75, 1.0),
    layers=(
        Layer(CONV, 2, (8, 12, 16, 16)),
        Layer(DEPTHWISE, 1, (8, 12, 16, 16)),
        Layer(POINTWISE, 1, (16, 20, 28, 32)),
        Layer(DEPTHWISE, 2, (16, 20, 28, 32)),
        Layer(POINTWISE, 1, (32, 44, 56, 64)),
        Layer(DEPTHWISE, 1, (32, 44, 56, 64)),
        Layer(POINTWISE, 1, (32, 44, 56, 64)),
        Layer(POINTWISE, 1, (6, 8, 11, 14), relu=False),
    ),
    targets=(Target(36, 71), Target(58, 70), Target(116, 148), Target(200, 238)),
    tail_channels=(80, 160),
    notes=(
        "All of it takes 70 to 90 minutes on one core with AVX512-BF16, longer without; checkpoints "
        "of every epoch let it stop and go on.",
        "A width is named after its share of the full head's work: the first layers keep half their channels "
        "at the narrowest, because that is where a narrow head loses most.",
    ),
)
