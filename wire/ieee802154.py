"""IEEE 802.15.4 MAC frames (IEEE 802.15.4-2015 §7.2 and §7.3; 2003 and 2006 are its frame versions 0 and 1).

     0         1                   2
    +---------+---------+---------+---------+------------+---------+------------+---------+----
    | frame control, LE | seq     | dst PAN | dst 2 or 8 | src PAN | src 2 or 8 | payload | FCS
    +---------+---------+---------+---------+------------+---------+------------+---------+----
    each field little endian; PANs and addresses are there or not as frame control says

    frame control, bit 0 first
    | type 3 | security 1 | pending 1 | ack 1 | PAN compression 1 | 0 1 | no seq 1 | IEs 1 |
    | dst mode 2 | version 2 | src mode 2 |        modes: 0 none, 2 short, 3 EUI-64

A frame with EUI-64s at both ends and one PAN has a header of 21 bytes; with 2 bytes of FCS, 104 of the 127
are left.

Reasons: `truncated`, `oversized`, `bad-fcs`, `frame-type`, `frame-version`, `address-mode`,
`pan-compression`, `security-header`, `ie`.
"""

import struct
from binascii import crc_hqx
from dataclasses import dataclass
from enum import IntEnum

from wire.errors import WireError

#: Largest frame, with its FCS (aMaxPHYPacketSize); the smart-utility and other newer PHYs carry longer ones.
MAX_FRAME = 127
LONGEST_FRAME = 2047
FCS_SIZE = 2

_SECURITY = 0x0008
_PENDING = 0x0010
_ACK_REQUEST = 0x0020
_PAN_COMPRESSION = 0x0040
_NO_SEQUENCE = 0x0100
_IES = 0x0200
#: Bytes of a MIC at security levels 0..7; levels 4..7 encrypt the payload too.
_MIC_SIZE = (0, 4, 8, 16, 0, 4, 8, 16)
#: Bytes of the key identifier at key-id modes 0..3.
_KEY_ID_SIZE = (0, 1, 5, 9)

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class FrameKind(IntEnum):
    """Frame types this reader knows."""

    BEACON = 0
    DATA = 1
    ACK = 2
    COMMAND = 3


#: Data between two EUI-64s of one PAN, version 0 or 1, no security: what a gateway hears nearly always.
_USUAL = FrameKind.DATA | _PAN_COMPRESSION | 3 << 10 | 3 << 14
_USUAL_MASK = 0xFFFF & ~(_ACK_REQUEST | 1 << 12)
_USUAL_HEADER = 21
_USUAL_START = struct.Struct("<HBH")
_DATA = FrameKind.DATA


def fcs(data: bytes) -> int:
    """The frame check sequence of a frame: ITU-T CRC-16, reflected, initial value 0 (§7.2.10)."""
    crc = crc_hqx(data.translate(_REVERSED), 0)
    return _REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]


def _fcs_bytes(frame: bytes) -> bytes:
    return fcs(frame).to_bytes(2, "little")


def room(dst: bytes | None, src: bytes | None) -> int:
    """Bytes of MAC payload beside one PAN and these addresses in a data frame: 104 between two EUI-64s."""
    return MAX_FRAME - FCS_SIZE - 5 - len(dst or b"") - len(src or b"")


def check_fcs(frame: bytes) -> bytes:
    """The frame without its FCS of two bytes.

    Raises:
        WireError: `truncated` or `bad-fcs`.
    """
    if len(frame) < FCS_SIZE:
        raise WireError("truncated", f"a frame of {len(frame)} bytes has no room for its FCS")
    body = frame[:-FCS_SIZE]
    # The CRC of a frame and its own FCS is 0.
    if crc_hqx(frame.translate(_REVERSED), 0):
        found, expected = frame[-2] | frame[-1] << 8, fcs(body)
        raise WireError("bad-fcs", f"FCS 0x{found:04x}: expected 0x{expected:04x}")
    return body


@dataclass(slots=True)
class MacFrame:
    """One MAC frame: a data frame to send, or any frame that `parse` accepted.

    Args:
        kind: the frame type.
        seq: sequence number 0..255; None only where version 2 leaves it out.
        pan: the PAN of the destination or, without a destination, of the source; None if the frame names
            none.
        dst, src: EUI-64 of 8 bytes or short address of 2 bytes, most significant byte first; None if left
            out.
        payload: what follows the header (and header IEs), without the FCS. Of a secured frame: as on the air,
            ciphertext and MIC included.
        src_pan: the PAN of the source where the frame names a second one.
        version: frame version 0 (2003), 1 (2006) or 2 (2015).
        security: the auxiliary security header as on the air, empty if the frame is not secured.
        ies: version 2's information elements as on the air, their termination included.
        secured: the security bit; version 0 has it without an auxiliary header.
        pan_compression: the PAN compression bit; None derives it, as a sender should.
    """

    kind: FrameKind
    seq: int | None
    pan: int | None
    dst: bytes | None
    src: bytes | None
    payload: bytes
    ack_request: bool = False
    version: int = 0
    pending: bool = False
    src_pan: int | None = None
    security: bytes = b""
    ies: bytes = b""
    secured: bool = False
    pan_compression: bool | None = None

    @property
    def security_level(self) -> int:
        """Security level 0..7; version 0 does not say it, and counts as 7 when secured."""
        if self.security:
            return self.security[0] & 0x07
        return 7 if self.secured else 0

    @property
    def clear_payload(self) -> bytes | None:
        """The payload without its MIC, or None if it is encrypted or shorter than its MIC."""
        level = self.security_level
        if level >= 4:
            return None
        mic = _MIC_SIZE[level]
        if mic > len(self.payload):
            return None
        return self.payload[: len(self.payload) - mic] if mic else self.payload

    @classmethod
    def parse(cls, data: bytes, fcs: bool = True, longest: int = MAX_FRAME) -> "MacFrame":
        """Read one frame.

        Args:
            data: the frame, with its FCS if `fcs`.
            fcs: whether the last two bytes are the FCS, which is then verified.
            longest: bytes that the PHY carries, the FCS included.

        Raises:
            WireError: see the reasons above.
        """
        size = len(data)
        if size + (0 if fcs else FCS_SIZE) > longest:
            raise WireError("oversized", f"a frame of {size} bytes: its PHY carries {longest} with the FCS")
        if fcs:
            data = check_fcs(data)
            size -= FCS_SIZE
        if size < 2:
            raise WireError("truncated", f"a frame of {size} bytes has no frame control field")
        control = data[0] | data[1] << 8
        if control & _USUAL_MASK == _USUAL and size >= _USUAL_HEADER:
            return cls(
                _DATA,
                data[2],
                data[3] | data[4] << 8,
                data[12:4:-1],
                data[20:12:-1],
                data[21:],
                bool(control & _ACK_REQUEST),
                control >> 12 & 0x03,
                pan_compression=True,
            )
        kind = control & 0x07
        if kind > FrameKind.COMMAND:
            raise WireError("frame-type", f"frame type {kind}: expected beacon, data, ack or command (0..3)")
        version = control >> 12 & 0x03
        if version == 3:
            raise WireError("frame-version", "frame version 3 is reserved")
        dst_mode = control >> 10 & 0x03
        src_mode = control >> 14
        if dst_mode == 1 or src_mode == 1:
            raise WireError("address-mode", "addressing mode 1 is reserved: expected none, short or EUI-64")
        compression = bool(control & _PAN_COMPRESSION)
        has_pan, has_src_pan = _pans(version, dst_mode, src_mode, compression)
        at = 2
        seq = None
        if version < 2 or not control & _NO_SEQUENCE:
            if size < 3:
                raise WireError("truncated", "a frame of 2 bytes has no sequence number")
            seq = data[2]
            at = 3
        dst_size = (0, 0, 2, 8)[dst_mode]
        src_size = (0, 0, 2, 8)[src_mode]
        end = at + 2 * has_pan + dst_size + 2 * has_src_pan + src_size
        if end > size:
            raise WireError("truncated", f"addressing fields end at byte {end} of a frame of {size}")
        pan = src_pan = dst = src = None
        if has_pan:
            pan = data[at] | data[at + 1] << 8
            at += 2
        if dst_size:
            dst = data[at : at + dst_size][::-1]
            at += dst_size
        if has_src_pan:
            src_pan = data[at] | data[at + 1] << 8
            at += 2
            if not has_pan:
                pan, src_pan = src_pan, None
        if src_size:
            src = data[at : at + src_size][::-1]
            at += src_size
        security = ies = b""
        secured = bool(control & _SECURITY)
        if secured and version > 0:
            start, at = at, _security_end(data, at)
            security = data[start:at]
        if version == 2 and control & _IES:
            start, at = at, _ies_end(data, at, encrypted=bool(security) and security[0] & 0x07 >= 4)
            ies = data[start:at]
        return cls(
            FrameKind(kind),
            seq,
            pan,
            dst,
            src,
            data[at:],
            bool(control & _ACK_REQUEST),
            version,
            bool(control & _PENDING),
            src_pan,
            security,
            ies,
            secured,
            compression,
        )

    def emit(self, fcs: bool = True) -> bytes:
        """The frame's bytes, with the FCS if `fcs`.

        Raises:
            WireError: if the fields make no frame: `oversized`, `address-mode`, `pan-compression`,
                `frame-version`.
        """
        frame = self._usual()
        if frame is None:
            frame = self._any()
        if len(frame) + FCS_SIZE > MAX_FRAME:
            raise WireError(
                "oversized", f"a frame of {len(frame) + FCS_SIZE} bytes: 802.15.4 allows 127 with the FCS"
            )
        return frame + _fcs_bytes(frame) if fcs else frame

    def _usual(self) -> bytes | None:
        """The frame without its FCS if it is of the form that a gateway sends nearly always."""
        seq, pan, dst, src = self.seq, self.pan, self.dst, self.src
        if (
            dst is None
            or src is None
            or seq is None
            or pan is None
            or not len(dst) == len(src) == 8
            or self.kind is not _DATA
            or self.version > 1
            or self.src_pan is not None
            or self.pan_compression is False
            or self.pending
            or self.secured
            or self.security
            or self.ies
        ):
            return None
        control = _USUAL | (_ACK_REQUEST if self.ack_request else 0) | self.version << 12
        return _USUAL_START.pack(control, seq, pan) + dst[::-1] + src[::-1] + self.payload

    def _any(self) -> bytes:
        """The frame without its FCS."""
        dst_mode, src_mode = _mode(self.dst), _mode(self.src)
        compression = self.pan_compression
        if compression is None:
            compression = _derive_compression(self)
        has_pan, has_src_pan = _pans(self.version, dst_mode, src_mode, compression)
        pans = [pan for pan in (self.pan, self.src_pan) if pan is not None]
        if len(pans) != has_pan + has_src_pan or (self.pan is None and pans):
            raise WireError(
                "pan-compression", f"{len(pans)} PANs do not fit these addresses and PAN compression"
            )
        if self.seq is None and self.version < 2:
            raise WireError("frame-version", "only frame version 2 can leave the sequence number out")
        control = (
            self.kind
            | (_SECURITY if self.secured or self.security else 0)
            | (_PENDING if self.pending else 0)
            | (_ACK_REQUEST if self.ack_request else 0)
            | (_PAN_COMPRESSION if compression else 0)
            | (_NO_SEQUENCE if self.seq is None else 0)
            | (_IES if self.ies else 0)
            | dst_mode << 10
            | self.version << 12
            | src_mode << 14
        )
        parts = [control.to_bytes(2, "little")]
        if self.seq is not None:
            parts.append(bytes((self.seq,)))
        if has_pan:
            parts.append(pans.pop(0).to_bytes(2, "little"))
        if self.dst:
            parts.append(self.dst[::-1])
        if has_src_pan:
            parts.append(pans.pop(0).to_bytes(2, "little"))
        if self.src:
            parts.append(self.src[::-1])
        parts += (self.security, self.ies, self.payload)
        return b"".join(parts)


def _mode(address: bytes | None) -> int:
    if address is None:
        return 0
    if len(address) == 8:
        return 3
    if len(address) == 2:
        return 2
    raise WireError("address-mode", f"an address of {len(address)} bytes: expected 8, 2 or none")


def _derive_compression(frame: MacFrame) -> bool:
    """PAN compression as a sender sets it: one PAN for both ends, or (version 2) none at all."""
    if frame.version < 2:
        return frame.dst is not None and frame.src is not None and frame.src_pan is None
    if frame.dst is None and frame.src is None:
        return frame.pan is not None
    if frame.dst is not None and frame.src is not None and (len(frame.dst) == 2 or len(frame.src) == 2):
        return frame.src_pan is None
    return frame.pan is None


def _pans(version: int, dst_mode: int, src_mode: int, compression: bool) -> tuple[bool, bool]:
    """Which PAN fields a frame carries, (destination's, source's): §7.2.2.6 and Table 7-2."""
    dst, src = bool(dst_mode), bool(src_mode)
    if version < 2:
        if compression and not (dst and src):
            raise WireError("pan-compression", "PAN compression without both addresses")
        return dst, src and not compression
    if not dst:
        return (compression, False) if not src else (False, not compression)
    if not src:
        return not compression, False
    if dst_mode == src_mode == 3:
        return not compression, False
    return True, not compression


def _security_end(data: bytes, at: int) -> int:
    """Where the auxiliary security header that starts at `at` ends (§9.4)."""
    if at >= len(data):
        raise WireError("truncated", "a secured frame ends before its auxiliary security header")
    control = data[at]
    counter_suppressed = control & 0x20
    end = at + 1 + (0 if counter_suppressed else 4) + _KEY_ID_SIZE[control >> 3 & 0x03]
    if end > len(data):
        raise WireError("security-header", f"the auxiliary security header ends at byte {end} of {len(data)}")
    return end


def _ies_end(data: bytes, at: int, *, encrypted: bool) -> int:
    """Where the information elements that start at `at` end (§7.4); encrypted payload IEs are payload."""
    size = len(data)
    while at < size:
        if at + 2 > size:
            raise WireError("ie", "a header IE is cut short")
        word = data[at] | data[at + 1] << 8
        if word & 0x8000:
            raise WireError("ie", "a payload IE where a header IE was expected")
        at += 2 + (word & 0x7F)
        if at > size:
            raise WireError("ie", f"a header IE ends at byte {at} of a frame of {size}")
        element = word >> 7 & 0xFF
        if element == 0x7F:
            return at
        if element == 0x7E:
            break
    while at < size and not encrypted:
        if at + 2 > size:
            raise WireError("ie", "a payload IE is cut short")
        word = data[at] | data[at + 1] << 8
        if not word & 0x8000:
            raise WireError("ie", "a header IE where a payload IE was expected")
        at += 2 + (word & 0x7FF)
        if at > size:
            raise WireError("ie", f"a payload IE ends at byte {at} of a frame of {size}")
        if word >> 11 & 0x0F == 0x0F:
            break
    return at
