"""The switch to another key epoch, ordered in an answer (docs/protocol.md, section 8).

Imported when there is such an order, and by a start that finds a slot; it drops itself again.

The new epoch is on trial until the first answer under its keys. Then it is kept: in `epoch.a` or `epoch.b`,
in turns, so that a write that a power cut spoils leaves the one before, which the gateway still accepts. A
message that nobody takes while the trial lasts ends it, and the device goes on under the old keys until it is
ordered again. The counter goes on counting whatever the epoch.

slot, 12 bytes, big endian: "SWE1" | epoch u32 | CRC-32 u32 of the 8 before and the root: another identity's
slot is none
"""

import gc
import sys
from binascii import crc32
from struct import pack

PAUSE = 16  # answers without a new trial after one that failed


def slot(epoch, root):
    """The 12 bytes of a slot."""
    data = b"SWE1" + pack(">I", epoch)
    return data + pack(">I", crc32(data + root))


def newest(directory, root, epoch):
    """The epoch to start with: that of the settings, or a later one that was kept."""
    for name in ("epoch.a", "epoch.b"):
        try:
            with open(directory + name, "rb") as file:
                data = file.read()
        except OSError:
            continue
        found = int.from_bytes(data[4:8], "big")
        if slot(found, root) == data:
            epoch = max(epoch, found)
    return epoch


def turn(agent, message, receiver, counters, order):
    """What an answer, or the lack of one, means for the epoch. order: the epoch ordered, 0: none; -1: the
    message was lost. Raises MemoryError before anything is changed.
    """
    try:
        _turn(agent, message, receiver, counters, order)
    finally:
        _forget()


def _turn(agent, message, receiver, counters, order):
    identity = counters.identity
    root, eui64, site, directory, epoch, trial = identity
    if order < 0:
        order = trial - 1
        trial = -PAUSE
    elif trial < 0:
        identity[5] += 1
        return
    else:
        if trial:
            kept = "true"
            try:
                with open(directory + "epoch." + "ab"[epoch & 1], "wb") as file:
                    file.write(slot(epoch, root))
                    counters._flush(file)
            except OSError:
                kept = "false"  # a restart begins with the old one, and is ordered again
            identity[5] = 0
            agent.log("epoch", '"epoch":%d,"kept":%s' % (epoch, kept))
        if order <= epoch:
            return
        trial = epoch + 1
    gc.collect()
    from firmware.ccm import block_cipher
    from firmware.hmac import pad
    from firmware.keys import derive

    keys = derive(root, eui64, order, site)
    up, down = pad(keys[0]), pad(keys[1])
    seal, unseal = block_cipher(keys[2]), block_cipher(keys[3])
    # Nothing can fail from here on. No message is under way, and no reply is awaited.
    bits = (order & 3) << 2
    message._octet0, message._key, message._encrypt = 0x40 | bits, up, seal
    receiver._octet0, receiver._key, receiver._encrypt = 0x50 | bits, down, unseal
    identity[4] = order
    identity[5] = trial
    agent.log("epoch", '"epoch":%d,"was":%d' % (order, epoch))


def _forget():
    """Drop this module and what only it needs."""
    import firmware

    for name in ("keys", "hkdf", "rotation"):
        if sys.modules.get("firmware." + name):
            sys.modules["firmware." + name] = None
            del sys.modules["firmware." + name]
            setattr(firmware, name, None)
            delattr(firmware, name)
