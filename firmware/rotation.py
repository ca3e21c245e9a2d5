"""The switch to another key epoch, ordered in an answer (docs/protocol.md, section 8).

Imported when there is such an order, and by a start that finds the file; it drops itself again.

The new epoch is on trial until the first answer under its keys. Then it is kept. A message that nobody takes
while the trial lasts ends it, and the device goes on under the old keys until it is ordered again. The
counter goes on counting whatever the epoch.

The file `epoch` has two slots that take turns, so that a write that a power cut spoils leaves the epoch
before, which the gateway still accepts.

slot, 12 bytes, big endian: "SWE1" | epoch u32 | CRC-32 u32 of the 8 before and the root: another identity's
slot is none

`message` has the present epoch, and the root with the site's name behind it. `receiver.trial`: 0: none; more:
the epoch before + 1; less: so many answers until the next trial.
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
    try:
        with open(directory + "epoch", "rb") as file:
            data = file.read(24)
    except OSError:
        return epoch
    for half in (data[:12], data[12:]):
        found = int.from_bytes(half[4:8], "big")
        if slot(found, root) == half:
            epoch = max(epoch, found)
    return epoch


def keep(directory, root, epoch, flush):
    """Start with this epoch from now on. Raises OSError."""
    name = directory + "epoch"
    try:
        file = open(name, "r+b")
    except OSError:
        file = open(name, "wb")
    with file:
        file.seek(12 * (epoch & 1))
        file.write(slot(epoch, root))
        flush(file)


def turn(agent, order):
    """What an answer, or the lack of one, means for the epoch. order: the epoch ordered, 0: none; -1: the
    message was lost. Raises MemoryError before anything is changed.
    """
    try:
        _turn(agent, agent._message, agent._receiver, agent._counters, order)
    finally:
        _forget()


def _turn(agent, message, receiver, counters, order):
    root, site = message.secret[:32], message.secret[32:].decode()
    epoch, trial = message.epoch, receiver.trial
    receiver.order = 0
    if order < 0:
        order = trial - 1
        trial = -PAUSE
    elif trial < 0:
        receiver.trial += 1
        return
    else:
        if trial:
            kept = "true"
            try:
                keep(counters._names[0][:-9], root, epoch, counters._flush)
            except OSError:
                kept = "false"  # a restart begins with the old one, and is ordered again
            receiver.trial = 0
            agent.log("epoch", '"epoch":%d,"kept":%s' % (epoch, kept))
        if order <= epoch:
            return
        trial = epoch + 1
    gc.collect()
    from firmware.ccm import block_cipher
    from firmware.hmac import pad
    from firmware.keys import derive

    keys = derive(root, receiver._eui64, order, site)
    up, down = pad(keys[0]), pad(keys[1])
    seal, unseal = block_cipher(keys[2]), block_cipher(keys[3])
    # Nothing can fail from here on. No message is under way, and no reply is awaited.
    bits = (order & 3) << 2
    message._octet0, message._key, message._encrypt = 0x40 | bits, up, seal
    receiver._octet0, receiver._key, receiver._encrypt = 0x50 | bits, down, unseal
    message.epoch = order
    receiver.trial = trial
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
