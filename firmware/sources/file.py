"""Opens a file camera, or says what is wrong with its files. Used at start; then this module is dropped."""

from struct import unpack

from ..errors import refuse
from .filecam import FileCamera

_HEADER = 12


def _open(path):
    """(file, length)."""
    try:
        file = open(path, "rb")
    except OSError:
        refuse("there is no " + path, "a file of the camera", "copy it there")
    return file, file.seek(0, 2)


def open_source(settings, root, shape):
    """A FileCamera for images of that (height, width, channels).

    settings: `path` of the images and `order` of the order's file, or "", both below `root`.
    """
    path = root + settings["path"]
    order = settings["order"] and root + settings["order"]
    camera, length = _open(path)
    camera.seek(0)
    header = camera.read(_HEADER)
    if len(header) < _HEADER or header[:4] != b"SWC1":
        refuse(path + " is no camera file", 'a file that starts with "SWC1"', "copy it again")
    count, *found = unpack("<HBBB", header[4:9])
    if tuple(found) != shape:
        refuse(
            "%s has images of %d x %d x %d" % (path, found[0], found[1], found[2]),
            "%d x %d x %d (height, width, channels), which head.bin takes" % shape,
            "use camera and head of the same bundle",
        )
    whole = _HEADER + count * shape[0] * shape[1] * shape[2]
    if not count or length != whole:
        refuse("%s has %d bytes" % (path, length), "%d images in %d bytes" % (count, whole), "copy it again")
    if not order:
        return FileCamera(camera, None, count)
    file, length = _open(order)
    if not length or length & 1:
        refuse("%s has %d bytes" % (order, length), "2 bytes an entry", "copy it again")
    file.seek(0)
    for _ in range(length >> 1):
        index = int.from_bytes(file.read(2), "little")
        if index >= count:
            refuse(
                "%s names image %d" % (order, index),
                "0 to %d" % (count - 1),
                "make it anew for this camera.bin",
            )
    return FileCamera(camera, file, length >> 1)
