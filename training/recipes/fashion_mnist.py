"""Fashion-MNIST, 28×28 grey, ten classes: a head of 0.56 MMAC, messages of one to three 802.15.4 frames."""

from training.recipe import CONV, POINTWISE, Layer, Recipe, Rivals, Target

FASHION_MNIST = Recipe(
    name="fashion-mnist",
    data="fashion-mnist",
    input=(28, 28, 1),
    widths=(0.25, 0.5, 0.75, 1.0),
    layers=(
        Layer(CONV, 2, (8, 12, 16, 16)),
        Layer(CONV, 2, (24, 32, 40, 48)),
        Layer(POINTWISE, 1, (32, 40, 52, 64)),
        Layer(POINTWISE, 1, (6, 8, 11, 14), relu=False),
    ),
    targets=(Target(37, 69), Target(59, 69), Target(100, 148), Target(172, 232)),
    tail=((96, 2), (160, 1)),
    teacher=((64, 1), (128, 2), (256, 2)),
    epochs=30,
    refine_epochs=61,
    batch=512,
    rate=3e-3,
    sandwich=False,
    teacher_epochs=16,
    teacher_rate=0.2,
    notes=(
        "A GPU takes a minute for the stages before refining, which took two and a half hours on a CPU core.",
    ),
    limits="Small grey pictures of single garments, centred on black: nothing here says how it does on "
    "photographs.",
)

RIVALS = Rivals(
    jpeg=(2, 5, 7, 20, 50),
    webp=(1, 10, 30, 50, 75),
    bottleneck=(1, 2, 4),
    ensemble=(
        Layer(CONV, 2, (8, 16, 24, 32)),
        Layer(CONV, 2, (20, 40, 60, 80)),
        Layer(POINTWISE, 1, (24, 48, 72, 96)),
        Layer(POINTWISE, 1, (14, 14, 14, 14), relu=False),
    ),
)
