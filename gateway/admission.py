"""Who may hold how much memory for datagrams under reassembly.

Every enrolled identity owns a reserve that nobody else can touch; trust adds bytes from a shared remainder.
A newer verified counter evicts that identity's own oldest incomplete datagram, never another's. Nothing here
looks at unauthenticated evidence.

Trust that falls on *authenticated* evidence takes the part of the remainder first. Then, in quarantine, it
takes the reserve, for a bounded time; on probation after that the reserve is one datagram. What comes in one
frame needs no reserve, and is served all the same.
"""

from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.reassembly import Datagram
from security.trust import Standing

#: The largest datagram: IPv6's minimum MTU, octets.
LARGEST_DATAGRAM = 1280


@dataclass(frozen=True)
class Limits:
    """Bounds of the receiver. Sizes in bytes, times in s."""

    #: Memory for datagrams under reassembly: all reserves, the early fragments, and the shared remainder.
    memory: int = 8 * 1024 * 1024
    #: Reserve of each enrolled identity.
    reserve: int = 2 * LARGEST_DATAGRAM
    #: Pool of fragments that overtook their first one.
    early_pool: int = 4096
    #: A datagram unfinished for this long is dropped (RFC 4944 §5.3: at most 60 s).
    timeout: float = 15.0
    #: A fragment that overtook its first one is kept for this long.
    early_timeout: float = 10.0
    #: Copies of a completed datagram are late duplicates for this long, then a retry of the device.
    #: The gap doubles with each retry.
    retry_gap: float = 0.2
    #: A completed datagram may be retried for this long; later its copies are replays.
    retry_window: float = 60.0
    #: Completed datagrams remembered per identity.
    remembered: int = 32
    #: Verified new messages per s of one identity; more are negative evidence, and served all the same.
    rate: float = 250.0
    #: Messages of one identity that may come at once on top of `rate`.
    burst: float = 500.0

    def reserve_at(self, standing: Standing) -> int:
        """Bytes of the reserve that are left to an identity of this standing."""
        if standing is Standing.FULL:
            return self.reserve
        return min(self.reserve, LARGEST_DATAGRAM) if standing is Standing.PROBATION else 0


class Account:
    """What one identity holds: open datagrams by (datagram size, datagram tag), and their bytes.

    `newest` has them by the low 8 bits of the tag, which is all that a recoverable fragment says; of several
    the newest.
    """

    __slots__ = ("newest", "open", "used")

    def __init__(self) -> None:
        self.open: dict[tuple[int, int], Datagram] = {}
        self.newest: dict[int, Datagram] = {}
        self.used = 0


class Budget:
    """The memory of all identities: their reserves and the shared remainder.

    Args:
        limits: the bounds.
        identities: how many are enrolled.

    Raises:
        GatewayError: the reserves of all identities do not fit `limits.memory`.
    """

    def __init__(self, limits: Limits, identities: int) -> None:
        self.limits = limits
        self.identities = identities
        fixed = identities * limits.reserve + limits.early_pool
        if fixed > limits.memory:
            raise GatewayError(
                f"{identities} enrolled devices need {fixed} bytes of reassembly memory, "
                f"and limits.memory is {limits.memory}",
                remedy=f"set limits.memory to at least {fixed}",
            )
        self.shared = limits.memory - fixed
        self.shared_used = 0
        self.used = 0

    def resize(self, identities: int) -> None:
        """Follow a registry that changed. Raises GatewayError and changes nothing when it does not fit."""
        other = Budget(self.limits, identities)
        self.identities, self.shared = identities, other.shared

    def reserve(
        self,
        account: Account,
        datagram: Datagram,
        allowance: int,
        standing: Standing = Standing.FULL,
    ) -> list[Datagram] | None:
        """Make room for `datagram` in its identity's account and enter it.

        Args:
            allowance: bytes of the shared remainder that trust grants this identity now.
            standing: how much of its reserve the identity has now.

        Returns:
            The identity's own datagrams that were evicted for it, oldest counter first; None when there is
            no room, because everything open there has a newer counter, or the standing leaves none. Nothing
            is changed then.
        """
        evicted: list[Datagram] = []
        if not self._fits(account, datagram.size, allowance, standing):
            older = sorted(
                (d for d in account.open.values() if d.counter < datagram.counter), key=lambda d: d.counter
            )
            free = 0
            while not self._fits(account, datagram.size - free, allowance, standing):
                if not older:
                    return None
                evicted.append(older.pop(0))
                free += evicted[-1].size
        for old in evicted:
            self.release(account, old)
        self._charge(account, datagram.size)
        account.open[(datagram.size, datagram.tag)] = datagram
        there = account.newest.get(datagram.tag & 0xFF)
        if there is None or there.counter <= datagram.counter:
            account.newest[datagram.tag & 0xFF] = datagram
        return evicted

    def fits_reserve(self, account: Account, size: int, standing: Standing) -> bool:
        """Whether `size` more bytes fit the identity's reserve: then `reserve` needs no allowance."""
        return account.used + size <= self.limits.reserve_at(standing)

    def release(self, account: Account, datagram: Datagram) -> None:
        """Close `datagram`: it is complete, expired or evicted."""
        del account.open[(datagram.size, datagram.tag)]
        if account.newest.get(datagram.tag & 0xFF) is datagram:
            del account.newest[datagram.tag & 0xFF]
        self._charge(account, -datagram.size)

    def return_borrowed(self, account: Account) -> None:
        """Close the account's oldest datagrams while more is borrowed than the shared remainder now has."""
        while self.shared_used > self.shared and account.used > self.limits.reserve:
            self.release(account, min(account.open.values(), key=lambda datagram: datagram.counter))

    def _fits(self, account: Account, more: int, allowance: int, standing: Standing) -> bool:
        if account.used + more > self.limits.reserve_at(standing) + allowance:
            return False
        borrowed = max(0, account.used - self.limits.reserve)
        wanted = max(0, account.used + more - self.limits.reserve)
        return wanted == 0 or self.shared_used - borrowed + wanted <= self.shared

    def _charge(self, account: Account, size: int) -> None:
        self.shared_used -= max(0, account.used - self.limits.reserve)
        account.used += size
        self.shared_used += max(0, account.used - self.limits.reserve)
        self.used += size
