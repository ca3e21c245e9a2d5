"""Start the device: `import firmware.main; firmware.main.run("/")` on a board, on Linux

    micropython -X heapsize=64k -m firmware.main ROOT [SECONDS]

with MICROPYPATH naming the folder that holds firmware/, compiled (`firmware.build`); sources take 96k.

ROOT holds device.json, head.bin, counter.a, counter.b and the source's files. Ends after SECONDS, or on
Ctrl-C.
"""

import gc
import sys


def run(root="/", seconds=None):
    """Run the agent; 0: it ended as asked, 2: the device is not fit to send (the reason is printed), 3: start
    the device anew, it has new keys and no room to take them up.
    """
    if ".frozen" not in sys.path:
        sys.path.append(".frozen")  # asyncio is there; MICROPYPATH replaces the path that names it
    import asyncio

    made = _make(root if root.endswith("/") else root + "/")
    if not made:
        return 2
    agent, opened = made
    gc.collect()
    try:
        asyncio.run(agent.run(seconds))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    finally:
        agent.report()
        gc.collect()
        agent.log("end", '"heap_free":%d' % (gc.mem_free() if hasattr(gc, "mem_free") else 0))
        for part in opened:
            part.close()
    return 3 if agent.again else 0


def _make(root):
    """(agent, what to close), or None: not fit. Not in `run`, whose frame would keep what it had called."""
    from firmware.errors import SettingsError
    from firmware.setup import assemble, forget

    try:
        made = assemble(root)
    except SettingsError as error:
        print("slimwire:", error)
        return None
    forget("setup")
    return made


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        print("usage: micropython -m firmware.main ROOT [SECONDS]")
        sys.exit(2)
    sys.exit(run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) == 3 else None))
