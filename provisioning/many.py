"""Several boards at once: each in a thread of its own, since nearly all of the time is waiting for ports."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provisioning.errors import ProvisionError, SomeFailedError
from slimwire.errors import SlimwireError


class StoppedError(Exception):
    """The run was interrupted while a board's thread waited."""


def each(
    ports: Sequence[str], jobs: int, work: Callable[[str, Callable[[], None]], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[SlimwireError]]:
    """`work(port, check)` for every port, `jobs` of them at a time.

    Whoever waits in `work` calls `check` now and then: it raises once the run was interrupted.

    Returns:
        (reports in the order of `ports`, what failed); a board that failed is reported as {"port", "error":
        {"what", "expected", "remedy", "fault", "exit_code"}}.
    """
    failed: list[SlimwireError] = []
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise StoppedError

    def one(port: str) -> dict[str, Any]:
        try:
            check()
            return work(port, check)
        except SlimwireError as error:
            failed.append(error)
            return {"port": port, "changed": None, "verified": False, "error": as_json(error)}

    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        return list(pool.map(one, ports)), failed
    except BaseException:
        stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def verdict(total: int, failed: Sequence[SlimwireError]) -> SlimwireError | None:
    """What a command over several boards ends with; None: all is well."""
    if not failed:
        return None
    if total == 1:
        return failed[0]
    return SomeFailedError(
        f"{len(failed)} of {total} boards failed: " + "; ".join(error.what for error in failed[:3]),
        remedy="each is told above; the same command again leaves out what is done",
    )


def as_json(error: SlimwireError) -> dict[str, Any]:
    """An error for programs."""
    return {
        "what": error.what,
        "expected": error.expected,
        "remedy": error.remedy,
        "fault": error.fault if isinstance(error, ProvisionError) else "",
        "exit_code": error.exit_code,
    }
