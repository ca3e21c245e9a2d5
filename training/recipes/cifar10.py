"""CIFAR-10, 32×32 colour, ten classes: a head of 1.1 MMAC and messages of one to four 802.15.4 frames.

Two full 3×3 convolutions and the latent: with so little work allowed, a shallow head of full convolutions
left more to the tail than deeper ones of depthwise layers did (1 to 4 points, on the validation split, at
equal bytes).
"""

from training.recipe import CONV, POINTWISE, Layer, Recipe, Rivals, Target

CIFAR10 = Recipe(
    name="cifar10",
    data="cifar10",
    input=(32, 32, 3),
    widths=(0.25, 0.5, 0.75, 1.0),
    layers=(
        Layer(CONV, 2, (12, 16, 20, 24)),
        Layer(CONV, 2, (32, 44, 56, 64)),
        Layer(POINTWISE, 1, (8, 10, 13, 16), relu=False),
    ),
    targets=(Target(60, 69), Target(115, 148), Target(200, 240), Target(292, 332)),
    trim=Target(276, 332),
    tail=((128, 3), (192, 2)),
    teacher=((64, 1), (128, 2), (256, 2), (384, 2)),
    epochs=71,
    batch=512,
    rate=3e-3,
    weight_decay=0.05,
    sandwich=False,
    shift=4,
    teacher_epochs=100,
    teacher_rate=0.2,
    camera_draws=True,
    heap_kib=128,
    limits="Thumbnails of ten kinds of things, each in the middle of its picture. The images of this copy of "
    "the data set have been through JPEG once. The answers' confidence is not calibrated.",
    notes=(
        "On one H100 the teacher takes a minute and the model two; on a CPU it is a matter of days.",
        "A head of two full convolutions: with so little work allowed it left more to the tail than deeper "
        "ones of depthwise layers did, by 1 to 4 points on the validation split at equal bytes.",
    ),
)

RIVALS = Rivals(
    jpeg=(5, 10, 20, 40, 75),
    webp=(1, 10, 30, 50, 75),
    bottleneck=(1, 2, 4),
    ensemble=(
        Layer(CONV, 2, (12, 24, 36, 48)),
        Layer(CONV, 2, (24, 48, 72, 96)),
        Layer(POINTWISE, 1, (16, 16, 16, 16), relu=False),
    ),
)
