"""Windows of a wrist's IMU, 100×1 with six channels, seven exercises: convolutions along time alone.

Of the 3×3 kernels only the middle column meets readings. The first three widths aim at one 802.15.4 frame,
the last at two.
"""

from models import wrist_imu
from training.recipe import CONV, POINTWISE, Layer, Recipe, Target

WRIST_IMU = Recipe(
    name="wrist-imu",
    data="wrist-imu",
    input=(wrist_imu.WINDOW, 1, 6),
    widths=(0.25, 0.5, 0.75, 1.0),
    layers=(
        Layer(CONV, 2, (8, 8, 12, 16)),
        Layer(CONV, 2, (16, 16, 24, 32)),
        Layer(CONV, 1, (16, 16, 24, 32)),
        Layer(POINTWISE, 1, (4, 6, 8, 12), relu=False),
    ),
    targets=(Target(14, 69), Target(28, 69), Target(54, 69), Target(100, 148)),
    tail=((48, 1), (96, 1)),
    teacher=((32, 1), (64, 1), (128, 1)),
    validation=wrist_imu.VALIDATION,
    epochs=45,
    batch=32,
    rate=2e-3,
    weight_decay=0.05,
    price_gain=0.1,
    ramp=0.15,
    ramp_from=1.5,
    sandwich=False,
    shift=0,
    flip=False,
    teacher_epochs=30,
    teacher_rate=0.05,
    erase=0,
    camera_images=512,
    notes=("A few minutes on one CPU core.",),
    limits="Ten people, seven shoulder exercises, a smartwatch, seven people to learn from and two "
    "to measure with: another wrist, watch or exercise may fare differently. There is no class for doing "
    "none of them. Windows overlap by half, so intervals, which take them as independent, are too narrow.",
)
