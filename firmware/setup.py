"""Makes an agent of the files of a device. Used at start, then dropped with all that only it needs."""

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


def _load(root):
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
    except (HeadError, OSError) as error:
        from firmware.errors import refuse

        refuse("%s: %s" % (path, error), "the head of a bundle", "copy head.bin from the bundle")
    Head.__init__ = None  # see `assemble`
    forget("headcheck", "headplan", "headfile")
    return head


def _messages(settings, keys, symbols):
    """(message, receiver): what seals and cuts, what verifies and opens; symbols: the most of a latent."""
    from firmware.receiver import Receiver

    gc.collect()
    from firmware.ccm import block_cipher
    from firmware.hmac import pad
    from firmware.hop import downlink, uplink
    from firmware.message import ROOM_MAX, Message

    eui64, gateway, epoch = settings["eui64"], settings["gateway"], settings["epoch"]
    ends = eui64, gateway, settings["link"]["pan"]
    room = min(ROOM_MAX, symbols * 3 // 4 + 4)
    message = Message(eui64, epoch, pad(keys[0]), block_cipher(keys[2]), uplink(*ends), room)
    receiver = Receiver(eui64, gateway, epoch, pad(keys[1]), block_cipher(keys[3]), downlink(*ends))
    Message.__init__ = Receiver.__init__ = None
    forget("hop")
    return message, receiver


def _link(settings, eui64):
    from firmware.links.zep import ZepLink  # the only type so far, as config checks

    link = ZepLink(
        settings["host"], settings["port"], eui64, settings["bind"], settings["channel"], settings["gap_ms"]
    )
    ZepLink.__init__ = None
    return link


def _source(settings, root, shape):
    from firmware.sources.filecheck import open_camera  # the only type so far, as config checks

    order = settings["order"]
    source = open_camera(root + settings["path"], order and root + order, shape)
    forget("sources.filecheck")
    return source


def assemble(root):
    """(agent, what to close at the end) for the directory `root`, which ends with a slash. Raises
    SettingsError.

    The order is that of a small heap: the largest modules, since compiling one takes several times its
    size; what is dropped again; the head, whose pieces are the largest; then the rest. A class whose one
    object is made loses its constructor.
    """
    for name in ("receiver", "agent"):
        __import__("firmware." + name)
        gc.collect()
    settings, keys = _load(root)
    head = _head(root + "head.bin")
    message, receiver = _messages(settings, keys, head.n_symbols)
    del keys
    from firmware.agent import Agent

    gc.collect()
    link = _link(settings["link"], settings["eui64"])
    source = _source(settings["source"], root, head.shape)

    from firmware import ports
    from firmware.counter import Counter
    from firmware.fallback import Fallback

    port = ports.find()
    port.connect(settings["wifi"])
    log, write = port.open_log(root + settings["log"]) if settings["log"] else (sys.stdout, sys.stdout.write)
    counters = Counter(root, port.flush)
    fallback = Fallback(len(head.widths))
    agent = Agent(head, source, link, message, receiver, counters, fallback, settings, write)
    Agent.__init__ = Counter.__init__ = Fallback.__init__ = None
    forget("ports.unix", "ports")
    agent.log(
        "start",
        '"runtime":"%s %s","heap":%d,"heap_free":%d,"model":%d,"widths":[%s]'
        % (
            sys.implementation.name,
            ".".join([str(part) for part in sys.implementation.version]),
            gc.mem_free() + gc.mem_alloc() if hasattr(gc, "mem_free") else 0,
            gc.mem_free() if hasattr(gc, "mem_free") else 0,
            head.model_tag,
            ",".join([str(width) for width in head.widths]),
        ),
    )
    return agent, (source, link) if log is sys.stdout else (source, link, log)
