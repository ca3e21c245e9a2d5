"""A camera whose pictures are in a file: for the demo, for tests, for a board on a desk.

camera.bin   "SWC1" | n u16 | height u8 | width u8 | channels u8 | 3 zero bytes | n images, u8; little endian
order.bin    u16 little endian each: which image comes next; starts over at the end. Without it: 0, 1, 2 ...

Images are read one at a time, so the file may be larger than memory.
"""

from struct import unpack

from ..errors import SettingsError

_HEADER = 12


def _size(file):
    return file.seek(0, 2)


class FileCamera:
    def __init__(self, path, order=None):
        self._path = path
        self._order_path = order
        self._file = self._order = None
        self._at = 0

    def open(self, directory, shape):
        path = directory + self._path
        try:
            self._file = open(path, "rb")
        except OSError:
            raise SettingsError("there is no %s" % path, "the camera's images", "copy camera.bin there")
        header = self._file.read(_HEADER)
        if len(header) < _HEADER or header[:4] != b"SWC1":
            raise SettingsError("%s is no camera file" % path, 'a file that starts with "SWC1"', "copy it again")
        self.count, height, width, channels = unpack("<HBBB", header[4:9])
        if (height, width, channels) != shape:
            raise SettingsError(
                "%s has images of %d x %d x %d" % (path, height, width, channels),
                "%d x %d x %d (height, width, channels), what head.bin takes" % shape,
                "use camera and head of the same bundle",
            )
        self._length = height * width * channels
        expected = _HEADER + self.count * self._length
        if not self.count or _size(self._file) != expected:
            raise SettingsError(
                "%s has %d bytes" % (path, _size(self._file)),
                "%d images in %d bytes" % (self.count, expected),
                "copy it again",
            )
        self._order_length = 0
        if self._order_path:
            self._open_order(directory + self._order_path)

    def _open_order(self, path):
        try:
            self._order = open(path, "rb")
        except OSError:
            raise SettingsError("there is no %s" % path, "the order of images", "copy it there, or drop source.order")
        length = _size(self._order)
        if not length or length & 1:
            raise SettingsError("%s has %d bytes" % (path, length), "2 bytes an entry", "copy it again")
        self._order_length = length >> 1
        self._order.seek(0)
        entry = bytearray(2)
        for _ in range(self._order_length):
            self._order.readinto(entry)
            if entry[0] | entry[1] << 8 >= self.count:
                raise SettingsError(
                    "%s names image %d" % (path, entry[0] | entry[1] << 8),
                    "0 to %d" % (self.count - 1),
                    "make it anew for this camera.bin",
                )

    def capture_into(self, buffer):
        """Read the next image into `buffer` (exactly one image long); its index in camera.bin."""
        index = self._at
        if self._order_length:
            self._order.seek(2 * index)
            entry = self._order.read(2)
            index = entry[0] | entry[1] << 8
        self._at = (self._at + 1) % (self._order_length or self.count)
        self._file.seek(_HEADER + index * self._length)
        if self._file.readinto(buffer) != self._length:
            raise OSError("camera.bin became shorter while in use")
        return index

    def close(self):
        for file in (self._file, self._order):
            if file:
                file.close()
