"""Start the device: `import firmware.main; firmware.main.run("/")` on a board, on Linux

    micropython -X heapsize=64k -m firmware.main ROOT [SECONDS]         # MICROPYPATH: the folder that holds firmware/

ROOT holds device.json, head.bin, counter.a, counter.b and the source's files. Ends after SECONDS, or on Ctrl-C.
"""

import gc
import sys


def run(root="/", seconds=None):
    """Run the agent; 0 when it ended as asked, 2 when the device is not fit to send (the reason is printed)."""
    from firmware.errors import SettingsError

    if ".frozen" not in sys.path:
        sys.path.append(".frozen")  # asyncio is there; MICROPYPATH replaces the path that names it
    if not root.endswith("/"):
        root += "/"
    try:
        agent, log, close = _assemble(root)
    except SettingsError as error:
        print("slimwire:", error)
        return 2
    import asyncio

    gc.collect()
    try:
        asyncio.run(agent.run(seconds))
    except KeyboardInterrupt:
        pass
    finally:
        agent.report()
        log.event("end", '"heap_free":%d' % _heap()[0])
        close()
    return 0


def _heap():
    """(free, total) bytes of the heap after a collection; zeros on CPython, which has none to speak of."""
    gc.collect()
    if not hasattr(gc, "mem_free"):
        return 0, 0
    free = gc.mem_free()
    return free, free + gc.mem_alloc()


def _load(root):
    """Settings and keys. What they need of code is dropped again: a small heap has better use for it."""
    from firmware.config import load
    from firmware.keys import derive

    settings = load(root + "device.json")
    keys = derive(settings["root"], settings["eui64"], settings["epoch"], settings["site"])
    del settings["root"]
    for name in ("firmware.config", "firmware.keys", "firmware.hkdf"):
        del sys.modules[name]
    return settings, keys


def _assemble(root):
    """The agent with all its parts, its log, and a function that closes what was opened."""
    # Code first, the largest modules foremost, while the heap is whole: compiling takes several times their size.
    from firmware.head import Head, HeadError

    gc.collect()
    from firmware.agent import Agent

    gc.collect()
    from firmware.message import BODY_MAX, Message
    from firmware.receiver import Receiver

    gc.collect()
    from firmware import links, ports, sources
    from firmware.counter import Counter, CounterLost
    from firmware.errors import SettingsError
    from firmware.fallback import Fallback
    from firmware.hmac import Hmac
    from firmware.log import Log
    from firmware.lowpan import Path

    gc.collect()
    settings, keys = _load(root)
    gc.collect()
    try:
        head = Head(root + "head.bin")
    except (HeadError, OSError) as error:
        raise SettingsError("%shead.bin: %s" % (root, error), "the head of a bundle", "copy it from the bundle")
    source = sources.create(settings["source"])
    source.open(root, head.shape)
    port = ports.find()
    try:
        counters = Counter(port.Store(root))
    except CounterLost as error:
        raise SettingsError(str(error))
    port.connect(settings.get("wifi"))
    eui64, gateway, epoch = settings["eui64"], settings["gateway"], settings["epoch"]
    link = links.create(settings["link"], eui64)
    path = Path(eui64, gateway, settings["link"]["pan"])
    room = min(head.n_symbols * 3 // 2 + 4, BODY_MAX)
    message = Message(path, eui64, epoch, Hmac(keys[0]), keys[2], room)
    receiver = Receiver(path, eui64, gateway, epoch, Hmac(keys[1]), keys[3])
    file = port.open_log(root + settings["log"]) if settings["log"] else sys.stdout
    log = Log(file)
    fallback = Fallback(len(head.widths))
    agent = Agent(head, source, link, message, receiver, counters, fallback, settings, log)
    link.open()

    def close():
        source.close()
        link.close()
        if settings["log"]:
            file.close()

    runtime = "%s %s" % (sys.implementation.name, ".".join([str(part) for part in sys.implementation.version]))
    log.event(
        "start",
        '"runtime":"%s","heap":%d,"model":%d,"widths":[%s],"heap_free":%d'
        % (runtime, _heap()[1], head.model_tag, ",".join([str(width) for width in head.widths]), _heap()[0]),
    )
    return agent, log, close


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        print("usage: micropython -m firmware.main ROOT [SECONDS]")
        sys.exit(2)
    sys.exit(run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) == 3 else None))
