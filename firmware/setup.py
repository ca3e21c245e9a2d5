"""Makes an agent of the files of a device. Used at start, then dropped with all that only it needs."""

import gc
import os
import sys
from binascii import crc32
from struct import pack, unpack

from firmware.hmac import pad

_SCRATCH = 1357 + 1232 + 125  # receiver, largest message, frame: see `_messages`
_RECOVERABLE = 16384  # heap that must be free for both ends of selective recovery; else it has one


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
    secret, eui64, site = settings.pop("root"), settings["eui64"], settings["site"]
    epoch = before = settings["epoch"]
    mark = 0
    if "epoch" in os.listdir(root):
        with open(root + "epoch", "rb") as file:  # see firmware.rotation
            data = file.read()
        if len(data) == 16:
            use, by, trial, check = unpack(">IIiI", data)
            inner = pad(derive(secret, eui64, by, site)[1])[0]
            if crc32(data[:12] + inner) == check:
                epoch, before, mark = use, by, trial
                if mark < 0:  # what the next start reads
                    data = pack(">IIi", use, by, -(-mark >> 1))
                    settings["pause"] = data + pack(">I", crc32(data + inner))
        gc.collect()  # what stays is to lie low
    settings["epoch"] = epoch
    keys = derive(secret, eui64, epoch, site) + (secret + site.encode(), (epoch, before), mark)  # noqa: RUF005
    forget("config", "keys", "hkdf")
    return settings, keys


def _head(path, mode):
    """The head, with scratch memory for everything that is idle while it runs."""
    from firmware.head import Head, HeadError

    try:
        head = Head(path, mode, _SCRATCH)
    except (HeadError, OSError) as error:
        from firmware.errors import refuse

        refuse("%s: %s" % (path, error), "the head of a bundle", "copy head.bin from the bundle")
    Head.__init__ = sys.modules["firmware.head"]._loader = None  # see `assemble`
    forget("headcheck", "headplan", "headfile")
    return head


def _messages(settings, keys, head):
    """(message, receiver, frame): what seals and cuts, what verifies and opens, where a frame is made.

    They work in the head's memory: a message begins once its symbols are there, and before the next image no
    reply is awaited any more.
    """
    from firmware.receiver import ROOM, Receiver

    gc.collect()
    from firmware.ccm import block_cipher
    from firmware.hop import downlink, uplink
    from firmware.lowpan import FRAME_MAX
    from firmware.message import AROUND, ROOM_MAX, Message

    if settings["link"]["type"] == "mqtt":
        from firmware.links.mqtt import WideMessage as Message
        from firmware.links.mqtt import WideReceiver as Receiver
    eui64, gateway, epoch = settings["eui64"], settings["gateway"], settings["epoch"]
    ends = eui64, gateway, settings["link"]["pan"]
    frame = ROOM + AROUND + min(ROOM_MAX, head.n_symbols * 3 // 4 + 4)
    memory = head.scratch
    message = Message(eui64, epoch, pad(keys[0]), block_cipher(keys[2]), uplink(*ends), memory[ROOM:frame])
    receiver = Receiver(
        eui64, gateway, epoch, pad(keys[1]), block_cipher(keys[3]), downlink(*ends), memory[:ROOM]
    )
    receiver.epochs, receiver.trial = keys[5:]
    Message.__init__ = Receiver.__init__ = None
    if not hasattr(gc, "mem_free") or gc.mem_free() > _RECOVERABLE:
        message.secret = keys[4]
    if settings["recovery"] != "off":
        if not hasattr(gc, "mem_free") or gc.mem_free() > _RECOVERABLE:
            from firmware.recoverable import Recoverable as Recovery
        else:
            from firmware.recovery import Recovery
        receiver.recovery = Recovery(settings["recovery"] == "always", 100)
    forget("hop")
    return message, receiver, memory[frame : frame + FRAME_MAX]


def _open(what, name, *args):
    """The link or source of that type, by its module's own function, which is then dropped."""
    path = "firmware.%ss.%s" % (what, name)
    try:
        __import__(path)
    except ImportError as error:
        from firmware.errors import refuse

        refuse("%s %s: %s" % (what, name, error), "a board that has it", "name another " + what)
    module = sys.modules[path]
    what = "open_" + what
    part = getattr(module, what)(*args)
    setattr(module, what, None)
    return part


def _storage(settings, root):
    """(file of the log, what writes a line to it, counters)."""
    from firmware import ports
    from firmware.counter import Counter

    port = ports.find()
    port.connect(settings["wifi"])
    log, write = port.open_log(root + settings["log"]) if settings["log"] else (sys.stdout, sys.stdout.write)
    if "pause" in settings:
        try:
            with open(root + "epoch.new", "wb") as file:
                file.write(settings.pop("pause"))
                port.flush(file)
            os.rename(root + "epoch.new", root + "epoch")
        except OSError:
            pass  # the pause stays as long as it was
    counters = Counter(root, port.flush)
    Counter.__init__ = Counter._read = None
    forget("ports.unix", "ports.esp32", "ports.rp2", "ports.wlan", "ports.littlefs", "ports")
    return log, write, counters


def _once(name, *args):
    """Call a function of this module that is needed no more, and drop it."""
    result = globals()[name](*args)
    globals()[name] = None
    gc.collect()
    return result


def assemble(root, own=None):
    """(agent, what to close at the end) for the directory `root`, which ends with a slash. Raises
    SettingsError.

    own: on a computer, functions to take in place of this module's, by their names.

    The order is that of a small heap: what is dropped again; the head, whose pieces are the largest; then the
    rest. A class whose one object is made loses its constructor, and this module what it has done with.
    """
    globals().update(own or {})
    whole = bytearray(768)  # memory in one piece for the agent: what is left at the end is in small ones
    settings, keys = _once("_load", root)
    log, write, counters = _once("_storage", settings, root)
    head = _once("_head", root + "head.bin", settings["head"])
    for name in ("receiver", "agent"):
        __import__("firmware." + name)
        gc.collect()
    message, receiver, frame = _once("_messages", settings, keys, head)
    del keys
    # 27: message header, MAC, inner header, seal's tag.
    link = _open("link", settings["link"]["type"], settings, 27 + len(message.body))
    del settings["link"]
    frame = getattr(link, "frame", frame)
    gc.collect()
    source = _open("source", settings["source"]["type"], settings.pop("source"), root, head.shape)
    globals()["_open"] = None
    forget("sources.file", "config", "errors", "links", "sources")
    from firmware.agent import Agent
    from firmware.fallback import Fallback

    fallback = Fallback(len(head.widths))
    del whole
    gc.collect()
    agent = Agent(head, source, link, message, receiver, frame, counters, fallback, settings, write)
    Agent.__init__ = Fallback.__init__ = None
    agent.log(
        "start",
        '"runtime":"%s %s","heap":%d,"heap_free":%d,"head":"%s","model":%d,"widths":[%s]'
        % (
            sys.implementation.name,
            ".".join([str(part) for part in sys.implementation.version]),
            gc.mem_free() + gc.mem_alloc() if hasattr(gc, "mem_free") else 0,
            gc.mem_free() if hasattr(gc, "mem_free") else 0,
            "flash" if head.file else "ram",
            head.model_tag,
            ",".join([str(width) for width in head.widths]),
        ),
    )
    return agent, (source, link, head) if log is sys.stdout else (source, link, head, log)
