"""Every reason for which something is dropped, by the stable name it is counted under.

`slimwire gateway reasons` prints this table; the names are part of the admin API and of the metrics.
"""

from enum import StrEnum

from security.signed import REASONS


class Reason(StrEnum):
    """A reason; its value is the counter's name, `about` says in one line when it is counted."""

    about: str

    def __new__(cls, value: str, about: str) -> "Reason":
        """Make a member whose value is only the name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.about = about
        return member

    # The link below 802.15.4.
    LINK_OVERRUN = "link-overrun", "The link's receive queue was full: the frame was dropped unread."
    BAD_ZEP = "bad-zep", "A UDP datagram that is no ZEP version 2 data frame."

    BAD_SLIP = "bad-slip", "Bytes on the serial line that are no SLIP packet, or one longer than a frame."
    BAD_TOPIC = "bad-topic", "An MQTT message on a topic that names no device."

    BROKER_REFUSED = (
        "broker-refused",
        "The embedded broker refused or cut off a connection: too many, too large, too slow, or not MQTT.",
    )

    LINK_UNSENT = "link-unsent", "The link could not send a frame: the network below it refused."

    # Frames.
    MALFORMED_FRAME = "malformed-frame", "Not a whole 802.15.4 data frame, or its FCS is wrong."
    NOT_OURS = "not-ours", "A frame for another address or PAN, or no data frame; no evidence against anyone."
    MALFORMED_LOWPAN = (
        "malformed-lowpan",
        "6LoWPAN headers that promise bytes that are not there, or are not supported.",
    )
    BAD_SIZE = (
        "bad-size",
        "datagram_size below 40 or above 1280, or other than the UDP length or the headers say.",
    )
    BAD_OFFSET = "bad-offset", "A fragment where no slice of the manifest starts, or beyond the datagram."
    BAD_LENGTH = (
        "bad-length",
        "A fragment that is empty, no multiple of 8 before the end, or not as long as its slice.",
    )
    NOT_UDP = "not-udp", "An IPv6 packet that carries something other than UDP."

    MALFORMED_FRAGMENT = "malformed-fragment", "An MQTT message that is no fragment."
    NO_FIRST = (
        "no-first",
        "A later MQTT fragment before its first one: a broker keeps the order, so that one never comes.",
    )

    # Who.
    STRANGER = "stranger", "A source address that is not enrolled here."
    REVOKED = "revoked", "A device whose enrolment was revoked; if it has its keys it is told so, rationed."
    BAD_SOURCE = "bad-source", "The IPv6 source is not the link-local address of the frame's sender."
    BAD_DESTINATION = "bad-destination", "The IPv6 destination is not this gateway's link-local address."
    BAD_PORT = "bad-port", "UDP ports other than 61616 at both ends."

    # The message and its manifest.
    MALFORMED_MESSAGE = (
        "malformed-message",
        "The first slice is too short for its message header, or a reserved bit is set.",
    )
    NO_MANIFEST = (
        "no-manifest",
        "A first fragment without F: nothing would cover the later ones.",
    )
    BAD_VERSION = "bad-version", "A protocol version this gateway does not speak."
    UNKNOWN_KIND = "unknown-kind", "A message kind that devices do not send to a gateway in this version."
    UNKNOWN_EPOCH = "unknown-epoch", "No key of that device for the epoch the message names."
    RETIRED_EPOCH = (
        "retired-epoch",
        "A key epoch that the device has moved on from more than 24 hours ago.",
    )
    TAG_MISMATCH = "tag-mismatch", "datagram_tag is not the low 16 bits of the message counter."
    BAD_MAC = "bad-mac", "The MAC of a first fragment is wrong: forged, or made with another key."
    BAD_MANIFEST = (
        "bad-manifest",
        "A verified first fragment whose cut is impossible; authenticated evidence.",
    )
    BAD_TAG = "bad-tag", "A later fragment whose tag is wrong; it alone is dropped."

    RECOVERY_ABORT = (
        "recovery-abort",
        "An RFRAG with offset 0: the sender's abort. Anybody can send it, so it frees nothing.",
    )
    STRAY_ACK = "stray-ack", "An RFRAG-ACK about nothing that this gateway sends: a hint of no use."

    # Replay and copies.
    DUPLICATE = "duplicate", "A fragment that is already there, byte for byte."
    OVERLAP = "overlap", "Other bytes at a place that is already verified."
    ALREADY_COMPLETE = "already-complete", "A late copy of a datagram that is complete."
    ALREADY_HELD = (
        "already-held",
        "A retry of a message that was just committed; its device is told `already`.",
    )
    REPLAYED = "replayed", "A counter that was used before; its device is told `already`, rationed."
    STALE = "stale", "A verified first fragment older than what its datagram_tag already holds."

    # Memory and time.
    EARLY_EVICTED = (
        "early-evicted",
        "A fragment that overtook its first one gave way in the full shared pool.",
    )
    EARLY_REFUSED = (
        "early-refused",
        "The shared pool had no room, or a copy, of a fragment that overtook its first one.",
    )
    EARLY_EXPIRED = "early-expired", "A fragment whose first one never came."
    EVICTED = "evicted", "An unfinished datagram gave way to a newer one of the same device."
    QUOTA = "quota", "No room: all that this device has open is newer."
    QUARANTINED = (
        "quarantined",
        "A verified message of several fragments, of a device in quarantine on authenticated evidence.",
    )
    EXPIRED = "expired", "A datagram was not finished in time."
    KEY_GONE = (
        "key-gone",
        "An unfinished datagram whose key left the registry: revoked, replaced or rotated out.",
    )
    OVER_RATE = "over-rate", "Evidence, not a refusal: a verified message above the device's rate."

    # Beyond admission.
    OUTBOX_FULL = "outbox-full", "The outbox had no room: the device is told `full`, and keeps its message."
    OUTBOX_SHARE = (
        "outbox-share",
        "The device holds its part of the outbox: it is told `full`, and keeps its message.",
    )
    OUTBOX_UNWRITABLE = (
        "outbox-unwritable",
        "The disk did not take a message: the device is told `full`, and keeps it.",
    )
    OUTBOX_EXPIRED = (
        "outbox-expired",
        "A message in custody that nobody took for as long as custody lasts was dropped.",
    )
    OUTBOX_KEY_GONE = (
        "outbox-key-gone",
        "A message in custody that nobody can open was dropped: neither registry has its key any more.",
    )
    UPLINK_REFUSED = (
        "uplink-refused",
        "The edge server refused a message by itself: it stays in the outbox and is tried again later.",
    )
    EDGE_UNKNOWN_DEVICE = (
        "edge-unknown-device",
        "The edge server has no keys for a message: it stays in the outbox and is tried again later.",
    )
    EDGE_UNAUTHORIZED = (
        "edge-unauthorized",
        "The edge server wants another token, or one at all: the whole batch waits.",
    )
    EDGE_BAD_SEAL = "edge-bad-seal", "The edge server could not open the seal; authenticated evidence."
    EDGE_BAD_LATENT = (
        "edge-bad-latent",
        "The edge server could not decode the latent; authenticated evidence.",
    )
    EDGE_UNKNOWN_MODEL = "edge-unknown-model", "The edge server has no bundle of the latent's model tag."
    EDGE_REVOKED = "edge-revoked", "The device is revoked at the edge server."
    DOWNLINK_FULL = "downlink-full", "The queue of answers to the air was full: the oldest was dropped."
    DOWNLINK_UNROUTABLE = (
        "downlink-unroutable",
        "No way to the device: no key, no address, or an answer too large.",
    )

    # The registry: the file as it is now is not used, the last good one is (`security.signed`).
    REGISTRY_UNREADABLE = "registry-unreadable", REASONS["registry-unreadable"]
    REGISTRY_DAMAGED = "registry-damaged", REASONS["registry-damaged"]
    REGISTRY_UNSIGNED = "registry-unsigned", REASONS["registry-unsigned"]
    REGISTRY_WRONG_KIND = "registry-wrong-kind", REASONS["registry-wrong-kind"]
    REGISTRY_WRONG_KEY = "registry-wrong-key", REASONS["registry-wrong-key"]
    REGISTRY_BAD_SIGNATURE = "registry-bad-signature", REASONS["registry-bad-signature"]
    REGISTRY_ROLLBACK = "registry-rollback", REASONS["registry-rollback"]
    REGISTRY_CONFLICT = "registry-conflict", REASONS["registry-conflict"]
    REGISTRY_TOO_LARGE = "registry-too-large", REASONS["registry-too-large"]
