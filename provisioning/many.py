"""Several boards at once: each in a thread of its own, since nearly all of the time is waiting for ports."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provisioning.errors import ProvisionError, SomeFailedError
from slimwire.errors import SlimwireError


def each(
    ports: Sequence[str], jobs: int, work: Callable[[str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[SlimwireError]]:
    """`work` for every port, `jobs` of them at a time.

    Returns:
        (reports in the order of `ports`, what failed); a board that failed is reported as {"port", "error":
        {"what", "expected", "remedy", "fault", "exit_code"}}.
    """
    failed: list[SlimwireError] = []

    def one(port: str) -> dict[str, Any]:
        try:
            return work(port)
        except SlimwireError as error:
            failed.append(error)
            return {"port": port, "changed": None, "verified": False, "error": as_json(error)}

    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        return list(pool.map(one, ports)), failed
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
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
