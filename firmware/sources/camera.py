"""A camera module of an ESP32 board, through whichever driver its MicroPython has.

    "source": {"type": "camera", "options": {"data_pins": [11, 9, 8, 10, 12, 18, 17, 16], "xclk_pin": 15}}

`options` are the driver's own arguments, such as pins; images built for one board need none. Drivers are
`camera.Camera` (micropython-camera-API) and `camera.init` (micropython-camera-driver). A head of one channel
gets grey pictures, one of three RGB ones: the picture's middle, averaged down to the image's size as
`device/pixels.py` does it on Linux.
"""

import camera

from ..compat import micropython, ptr8
from ..errors import refuse

_SIDES = (96, 240)  # of the square pictures that every driver has


def open_source(settings, root, shape):
    """A Camera for images of 1 or 3 channels, at most 240 pixels wide and high. Raises SettingsError."""
    height, width, channels = shape
    if channels not in (1, 3) or max(height, width) > _SIDES[-1]:
        refuse(
            "head.bin takes %d x %d x %d" % shape,
            "1 or 3 channels and at most %d pixels a side from a camera" % _SIDES[-1],
            "use a head made for pictures",
        )
    side = _SIDES[0] if max(height, width) <= _SIDES[0] else _SIDES[1]
    options = settings.get("options", {})
    try:
        driver = (_Objects if hasattr(camera, "Camera") else _Functions)(side, channels, options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        refuse("the camera does not start: %s" % error, "its driver's options", "correct source.options")
    return Camera(driver, side, shape)


class _Objects:
    """micropython-camera-API: a picture is a view of the driver's buffer, given back before the next."""

    def __init__(self, side, channels, options):
        size = getattr(camera.FrameSize, "R%dX%d" % (side, side))
        pixels = camera.PixelFormat.GRAYSCALE if channels == 1 else camera.PixelFormat.RGB565
        self._camera = camera.Camera(frame_size=size, pixel_format=pixels, **options)

    def capture(self):
        self._camera.free_buffer()
        return self._camera.capture()

    def close(self):
        self._camera.deinit()


class _Functions:
    """micropython-camera-driver: functions of the module, a picture is bytes."""

    def __init__(self, side, channels, options):
        size = getattr(camera, "FRAME_%dX%d" % (side, side))
        pixels = camera.GRAYSCALE if channels == 1 else camera.RGB565
        if not camera.init(0, format=pixels, framesize=size, **options):
            raise OSError("init failed")

    def capture(self):
        return camera.capture()

    def close(self):
        camera.deinit()


class Camera:
    """driver: gives pictures of side * side pixels, grey or RGB565 (high byte first)."""

    def __init__(self, driver, side, shape):
        self._driver = driver
        self._side = side
        self._shape = shape

    def capture_into(self, buffer):
        height, width, channels = self._shape
        side = self._side
        picture = self._driver.capture()
        expected = side * side * (2 if channels == 3 else 1)
        if not picture or len(picture) != expected:
            raise OSError("the camera gave %d bytes, not %d" % (len(picture or b""), expected))
        shrink(picture, side, buffer, height, width, channels)
        return -1

    def close(self):
        self._driver.close()


@micropython.viper
def shrink(picture: ptr8, side: int, out: ptr8, height: int, width: int, channels: int):
    """Average the middle of a square picture down to height * width pixels, each rounded to the nearest."""
    rows = side * height // width
    columns = side * width // height
    if rows > side:
        rows = side
    if columns > side:
        columns = side
    start = ((side - rows) // 2) * side + (side - columns) // 2
    at = 0
    y = 0
    while y < height:
        top = y * rows // height
        bottom = (y + 1) * rows // height
        x = 0
        while x < width:
            left = x * columns // width
            right = (x + 1) * columns // width
            n = (bottom - top) * (right - left)
            red = n >> 1
            green = red
            blue = red
            v = top
            while v < bottom:
                i = start + v * side + left
                end = i + right - left
                while i < end:
                    if channels == 1:
                        red += picture[i]
                    else:
                        high = picture[2 * i]
                        low = picture[2 * i + 1]
                        c = high >> 3
                        red += c << 3 | c >> 2
                        c = (high & 7) << 3 | low >> 5
                        green += c << 2 | c >> 4
                        c = low & 31
                        blue += c << 3 | c >> 2
                    i += 1
                v += 1
            out[at] = red // n
            at += 1
            if channels == 3:
                out[at] = green // n
                out[at + 1] = blue // n
                at += 2
            x += 1
        y += 1
