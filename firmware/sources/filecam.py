"""A camera whose pictures are in a file: for the demo, for tests, for a board on a desk.

camera.bin   "SWC1" | n u16 | height u8 | width u8 | channels u8 | 3 zero bytes | n images, u8; little endian
order.bin    u16 little endian each: which image comes next; starts over at the end. Without it: 0, 1, 2 ...

Images are read one at a time, so the file may be larger than memory. Both files are checked by `filecheck`.
"""


class FileCamera:
    """camera, order: open files, order None where there is none; steps: images until it starts over."""

    def __init__(self, camera, order, steps):
        self._camera = camera
        self._order = order
        self._steps = steps
        self._at = 0

    def capture_into(self, buffer):
        """Read the next image into `buffer` (exactly one image long); its index in camera.bin."""
        index = self._at
        self._at = (index + 1) % self._steps
        if self._order:
            self._order.seek(2 * index)
            index = int.from_bytes(self._order.read(2), "little")
        self._camera.seek(12 + index * len(buffer))
        if self._camera.readinto(buffer) != len(buffer):
            raise OSError("camera.bin became shorter while in use")
        return index

    def close(self):
        self._camera.close()
        if self._order:
            self._order.close()
