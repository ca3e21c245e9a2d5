"""Makes an agent of what is on the device's file system. Used once at start, and dropped with all that only it needs: a
small heap has better use for the memory."""

import gc
import sys


def forget(*names):
    """Drop modules of this package, so that the next collection frees them."""
    import firmware

    for name in names:
        # A dictionary keeps the value of an entry that is deleted: overwrite it first.
        if sys.modules.get("firmware." + name):
            sys.modules["firmware." + name] = None
            del sys.modules["firmware." + name]
            package, _, name = name.rpartition(".")
            package = getattr(firmware, package) if package else firmware
            setattr(package, name, None)
            delattr(package, name)
    gc.collect()


def _settings(root):
    """(settings, keys), from device.json."""
    from firmware.config import load
    from firmware.keys import derive

    settings = load(root + "device.json")
    keys = derive(settings.pop("root"), settings["eui64"], settings["epoch"], settings["site"])
    forget("config", "keys", "hkdf")
    return settings, keys


def _head(path):
    from firmware.head import Head, HeadError

    try:
        head = Head(path)
        forget("headcheck", "headplan", "headfile")
        return head
    except (HeadError, OSError) as error:
        from firmware.errors import refuse

        refuse("%s: %s" % (path, error), "the head of a bundle", "copy head.bin from the bundle")


def _source(settings, root, shape):
    from firmware.sources.filecheck import open_camera  # the only type so far, as config checks

    order = settings["order"]
    source = open_camera(root + settings["path"], order and root + order, shape)
    forget("sources.filecheck")
    return source


def assemble(root):
    """(agent, what to close at the end) for the directory `root`, which ends with a slash. Raises SettingsError."""
    # One after another and large ones first, while the heap is empty: compiling one takes several times its size.
    for name in ("kernels", "message", "receiver", "head", "agent"):
        __import__("firmware." + name)
        gc.collect()
    settings, keys = _settings(root)
    head = _head(root + "head.bin")
    source = _source(settings["source"], root, head.shape)

    from firmware import ports
    from firmware.agent import Agent
    from firmware.ccm import block_cipher
    from firmware.counter import Counter
    from firmware.fallback import Fallback
    from firmware.hmac import pad
    from firmware.hop import downlink, uplink
    from firmware.links.zep import ZepLink  # the only type so far, as config checks
    from firmware.message import ROOM_MAX, Message
    from firmware.receiver import Receiver

    port = ports.find()
    counters = Counter(root, port.flush)
    port.connect(settings["wifi"])
    log, write = port.open_log(root + settings["log"]) if settings["log"] else (sys.stdout, sys.stdout.write)
    eui64, gateway, epoch, link = settings["eui64"], settings["gateway"], settings["epoch"], settings["link"]
    ends = eui64, gateway, link["pan"]
    room = min(ROOM_MAX, head.n_symbols * 3 // 4 + 4)
    message = Message(eui64, epoch, pad(keys[0]), block_cipher(keys[2]), uplink(*ends), room)
    receiver = Receiver(eui64, gateway, epoch, pad(keys[1]), block_cipher(keys[3]), downlink(*ends))
    link = ZepLink(link["host"], link["port"], eui64, link["bind"], link["channel"], link["gap_ms"])
    fallback = Fallback(len(head.widths))
    made = Agent(head, source, link, message, receiver, counters, fallback, settings, write)
    forget("hop", "ports.unix", "ports")
    if hasattr(gc, "mem_free"):  # a heap to care for: constructors have done their work
        for part in (Agent, Message, Receiver, ZepLink, Counter, Fallback, type(source), type(head)):
            part.__init__ = None
    made.log(
        "start",
        '"runtime":"%s %s","heap":%d,"model":%d,"widths":[%s]'
        % (
            sys.implementation.name,
            ".".join([str(part) for part in sys.implementation.version]),
            gc.mem_free() + gc.mem_alloc() if hasattr(gc, "mem_free") else 0,
            head.model_tag,
            ",".join([str(width) for width in head.widths]),
        ),
    )
    return made, (source, link) if log is sys.stdout else (source, link, log)
