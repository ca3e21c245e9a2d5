"""ZigBee Encapsulation Protocol: 802.15.4 frames in UDP datagrams, port 17754 (as Wireshark reads it).

    version 2, data
    0    2   "EX"
    2    1   version = 2
    3    1   type = 1
    4    1   channel
    5    2   device id
    7    1   mode: 1, the frame ends with its FCS; 0, as TI's CC24xx leave it: RSSI, CRC-ok bit | correlation
    8    1   LQI
    9    8   NTP timestamp, 0 = not given
    17   4   sequence number
    21  10   reserved
    31   1   length of the frame
    32  ..   the frame

    version 2, ack: "EX" 2, type = 2, sequence number (4)
    version 1: "EX" 1, channel (1), device id (2), mode (1), LQI (1), reserved (7), length (1), the frame

Reasons: `truncated`, `zep-magic`, `zep-version`, `zep-type`, `zep-length`.
"""

import struct
from dataclasses import dataclass

from wire.errors import WireError

PORT = 17754
MAGIC = b"EX"
_V1 = struct.Struct(">2sBBHBB7xB")
_V2 = struct.Struct(">2sBBBHBBQI10xB")
_ACK = struct.Struct(">2sBBI")
_DATA, _ACKNOWLEDGEMENT = 1, 2
#: Seconds from 1900, NTP's epoch, to 1970.
_NTP_EPOCH = 2_208_988_800
_LONGEST = 255


@dataclass(slots=True)
class ZepFrame:
    """One encapsulated 802.15.4 frame.

    Args:
        channel: 802.15.4 channel, 11..26 at 2.4 GHz; any byte is accepted.
        device: the capturing or sending device's id, 0..65535.
        lqi: link quality 0..255.
        seq: sequence number, 32 bits; version 1 has none and reads as 0.
        frame: the frame as `crc_mode` says, at most 255 bytes.
        timestamp_us: microseconds since 1970; 0 = not given. Read from NTP's 32.32 format.
        crc_mode: whether the frame ends with its FCS, rather than with CC24xx status bytes.
        version: 2, or 1 (which has neither timestamp nor sequence number).
    """

    channel: int
    device: int
    lqi: int
    seq: int
    frame: bytes
    timestamp_us: int = 0
    crc_mode: bool = True
    version: int = 2

    @classmethod
    def parse(cls, data: bytes) -> "ZepFrame":
        """Read a data packet of version 2 or 1. Bytes after the announced length are refused.

        Raises:
            WireError: see the reasons above; an ack is refused as `zep-type` (read it with `ZepAck.parse`).
        """
        version = _version(data)
        if version == 2 and len(data) > 3 and data[3] != _DATA:
            raise WireError("zep-type", f"ZEP type {data[3]}: expected {_DATA}, data")
        layout = _V2 if version == 2 else _V1
        if len(data) < layout.size:
            raise WireError(
                "truncated", f"{len(data)} bytes of ZEP: version {version}'s header has {layout.size}"
            )
        if version == 2:
            _, _, _, channel, device, mode, lqi, ntp, seq, length = _V2.unpack_from(data)
        else:
            _, _, channel, device, mode, lqi, length = _V1.unpack_from(data)
            ntp = seq = 0
        frame = data[layout.size :]
        if length != len(frame):
            raise WireError("zep-length", f"ZEP announces a frame of {length} bytes and carries {len(frame)}")
        return cls(channel, device, lqi, seq, frame, _from_ntp(ntp), mode != 0, version)

    def emit(self) -> bytes:
        """The packet's bytes.

        Raises:
            WireError: `zep-length`, if the frame is longer than 255 bytes.
        """
        if len(self.frame) > _LONGEST:
            raise WireError(
                "zep-length", f"a frame of {len(self.frame)} bytes: ZEP carries at most {_LONGEST}"
            )
        mode, length = int(self.crc_mode), len(self.frame)
        if self.version == 1:
            return _V1.pack(MAGIC, 1, self.channel, self.device, mode, self.lqi, length) + self.frame
        ntp = _to_ntp(self.timestamp_us)
        header = _V2.pack(
            MAGIC, 2, _DATA, self.channel, self.device, mode, self.lqi, ntp, self.seq & 0xFFFFFFFF, length
        )
        return header + self.frame


@dataclass(slots=True)
class ZepAck:
    """ZEP version 2's acknowledgement of one packet, by its sequence number (32 bits)."""

    seq: int

    @classmethod
    def parse(cls, data: bytes) -> "ZepAck":
        """Read an ack.

        Raises:
            WireError: see the reasons above.
        """
        if _version(data) != 2:
            raise WireError("zep-version", "an ack of ZEP version 1: only version 2 has acks")
        if len(data) > 3 and data[3] != _ACKNOWLEDGEMENT:
            raise WireError("zep-type", f"ZEP type {data[3]}: expected {_ACKNOWLEDGEMENT}, ack")
        if len(data) < _ACK.size:
            raise WireError("truncated", f"{len(data)} bytes of ZEP: an ack has {_ACK.size}")
        return cls(_ACK.unpack_from(data)[3])

    def emit(self) -> bytes:
        """The packet's bytes."""
        return _ACK.pack(MAGIC, 2, _ACKNOWLEDGEMENT, self.seq)


def _version(data: bytes) -> int:
    if len(data) < 3:
        raise WireError("truncated", f"{len(data)} bytes of ZEP: expected 'EX' and a version")
    if data[:2] != MAGIC:
        raise WireError("zep-magic", f"ZEP starts with 'EX', this with {data[:2].hex()}")
    if data[2] not in (1, 2):
        raise WireError("zep-version", f"ZEP version {data[2]}: expected 1 or 2")
    return data[2]


def _from_ntp(ntp: int) -> int:
    micros = (ntp & 0xFFFFFFFF) * 1_000_000 >> 32
    if ntp >> 32 == 0 and micros == 0:
        return 0
    return ((ntp >> 32) - _NTP_EPOCH) * 1_000_000 + micros


def _to_ntp(timestamp_us: int) -> int:
    if timestamp_us == 0:
        return 0
    seconds, micros = divmod(timestamp_us, 1_000_000)
    # Rounding up makes _from_ntp, which rounds down, the exact inverse.
    return (seconds + _NTP_EPOCH & 0xFFFFFFFF) << 32 | -((-micros << 32) // 1_000_000)
