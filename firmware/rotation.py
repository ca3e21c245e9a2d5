"""The switch to another key epoch while the device runs, on a heap with room for it (docs/protocol.md,
section 8). Imported when an answer orders it; drops itself again.

Elsewhere the device starts anew between two messages. In both cases `firmware.agent` has written down what is
to be, in the file `epoch`, which `firmware.setup` reads:

    16 bytes, big endian: epoch to use u32 | epoch it was written in u32 | mark i32 | CRC-32 u32 of those
    and of K_frag_dn (padded, inner) of the epoch it was written in: another identity's file is none

The new epoch is on trial (mark 1) until the first answer under its keys; then it is kept (mark 0). A message
that nobody takes while the trial lasts ends it: the device goes on under the old keys, for so many messages
as the negative mark says, answered or lost, before it follows an order again. If one is lost after those, it
tries the new keys without an order: the gateway may have heard the trial, and refuses the old keys a day
later. They are counted in memory; each start halves what the file says (16, 8, 4, 2, 1, 0), so that a device
that is started anew for every message gets to its next trial, too. The counter goes on counting whatever the
epoch. The file is written under another name (`epoch.new`) and renamed: a spoilt one would leave the epoch of
device.json, which may be retired.
"""

import gc
import sys


def switch(message, receiver, epoch):
    """Seal and open under the keys of this epoch from now on; no message is under way, no reply awaited.
    Raises MemoryError before anything is changed.
    """
    gc.collect()
    from firmware.ccm import block_cipher
    from firmware.hmac import pad
    from firmware.keys import derive

    keys = derive(message.secret[:32], receiver._eui64, epoch, message.secret[32:].decode())
    up, down = pad(keys[0]), pad(keys[1])
    seal, unseal = block_cipher(keys[2]), block_cipher(keys[3])
    bits = (epoch & 3) << 2
    message._octet0, message._key, message._encrypt = 0x40 | bits, up, seal
    receiver._octet0, receiver._key, receiver._encrypt = 0x50 | bits, down, unseal
    import firmware

    for name in ("keys", "hkdf", "rotation"):
        if sys.modules.get("firmware." + name):
            sys.modules["firmware." + name] = None
            del sys.modules["firmware." + name]
            setattr(firmware, name, None)
            delattr(firmware, name)
