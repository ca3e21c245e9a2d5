"""Runs a command under as much of a systemd unit's sandbox as can be applied without systemd.

    python sandbox.py UNIT STATE_DIRECTORY COMMAND...

Applied are: SystemCallFilter, SystemCallErrorNumber, SystemCallArchitectures, MemoryDenyWriteExecute and
RestrictAddressFamilies as one seccomp filter; NoNewPrivileges; CapabilityBoundingSet and AmbientCapabilities
(empty); UMask; ProtectSystem=strict and StateDirectory as read-only mounts with one writable directory, where
this user may make a mount namespace. First a line of JSON: {"applied": [...], "not_applied": [...]}, of every
directive in the unit's [Service] that confines.
"""

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

_HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_ARCH = 0xC000003E
_LD, _JEQ, _AND, _RET = 0x20, 0x15, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EAFNOSUPPORT = 1, 97
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 22, 38, 24, 47
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

#: Of [Service]: what is no confinement.
_OTHER = {
    "Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "TimeoutStopSec", "WatchdogSec",
    "Environment", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode",
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def directives(unit: str) -> dict[str, list[str]]:
    """What [Service] says, by directive."""
    found: dict[str, list[str]] = {}
    section = unit.partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def calls(names: list[str]) -> set[str]:
    """System calls of sets and names, as this machine's systemd has them."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        text = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        members = [line.strip() for line in text.splitlines()[1:]]
        found |= calls([member for member in members if member and not member.startswith("#")])
    return found


def allowed(service: dict[str, list[str]]) -> set[int]:
    """Numbers of the system calls that the unit's filter lets through."""
    names = calls(["@default"])
    for value in service["SystemCallFilter"]:
        words = value.removeprefix("~").split()
        names = names - calls(words) if value.startswith("~") else names | calls(words)
    numbers = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", _HEADER.read_text()))
    return {int(numbers[name]) for name in names if name in numbers}


def program(service: dict[str, list[str]]) -> bytes:
    """The filter."""
    out: list[tuple[int, int, int, int]] = [
        (_LD, 0, 0, 4), (_JEQ, 1, 0, _ARCH), (_RET, 0, 0, _KILL), (_LD, 0, 0, 0),
    ]  # fmt: skip
    if "yes" in service.get("MemoryDenyWriteExecute", ()):
        # mmap: no PROT_WRITE with PROT_EXEC; mprotect, pkey_mprotect: no PROT_EXEC.
        for number, bits in ((9, 6), (10, 4), (329, 4)):
            out += [
                (_JEQ, 0, 5, number), (_LD, 0, 0, 32), (_AND, 0, 0, bits), (_JEQ, 0, 1, bits),
                (_RET, 0, 0, _ERRNO | _EPERM), (_RET, 0, 0, _ALLOW),
            ]  # fmt: skip
    families = [_FAMILIES[name] for name in " ".join(service["RestrictAddressFamilies"]).split()]
    out += [(_JEQ, 0, 2 + 2 * len(families), 41), (_LD, 0, 0, 16)]
    for family in families:
        out += [(_JEQ, 0, 1, family), (_RET, 0, 0, _ALLOW)]
    out += [(_RET, 0, 0, _ERRNO | _EAFNOSUPPORT)]
    for number in sorted(allowed(service)):
        out += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ALLOW)]
    out += [(_RET, 0, 0, _ERRNO | _EPERM)]
    return b"".join(struct.pack("<HBBI", *each) for each in out)


def read_only(state: Path) -> bool:
    """Make every mount read-only but `state`; False where this user may not."""
    flags = _CLONE_NEWNS if os.geteuid() == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(flags):
        return False
    if flags & _CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    where = os.fsencode(state)
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    if libc.mount(where, where, None, _MS_BIND, None):
        return False
    done = True
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = os.fsencode(line.split()[1].encode().decode("unicode_escape"))
        if point not in (where, b"/dev", b"/dev/pts", b"/dev/shm"):
            failed = libc.mount(b"none", point, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, None)
            done = done and not (failed and point == b"/")
    return done


def main() -> None:
    """Apply, say what was applied, become the command."""
    unit, state, command = Path(sys.argv[1]).read_text(), Path(sys.argv[2]), sys.argv[3:]
    service = directives(unit)
    filtered = program(service)
    applied = {
        "SystemCallFilter", "SystemCallErrorNumber", "SystemCallArchitectures", "RestrictAddressFamilies",
        "NoNewPrivileges", "UMask",
    }  # fmt: skip
    applied |= {"MemoryDenyWriteExecute"} & service.keys()
    if read_only(state):
        applied |= {"ProtectSystem", "StateDirectory"}
    os.umask(int(service["UMask"][0], 8))
    if os.geteuid() == 0:
        for number in range(64):
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
        applied |= {"CapabilityBoundingSet", "AmbientCapabilities"}
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    confining = service.keys() - _OTHER
    print(
        json.dumps({"applied": sorted(applied & confining), "not_applied": sorted(confining - applied)}),
        flush=True,
    )
    buffer = ctypes.create_string_buffer(filtered, len(filtered))
    filter_program = ctypes.create_string_buffer(
        struct.pack("<H6xQ", len(filtered) // 8, ctypes.addressof(buffer)), 16
    )
    if libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(filter_program), 0, 0):
        raise OSError(ctypes.get_errno(), "the seccomp filter was not taken")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
