"""`slimwire wire dump`: its lines, its errors, its exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimwire import cli
from tests.wire import captures

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")


@pytest.fixture
def dump(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `slimwire wire dump ...`; gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slimwire", "wire", "dump", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_json_lines(dump: Any, tmp_path: Path) -> None:
    made = captures.traffic(seed=2, datagrams=20)
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, [*made.frames, b"\xff" * 20]))
    code, out, err = dump(file, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    frames = [line for line in lines if "n" in line]
    assert [frame["n"] for frame in frames] == list(range(1, len(made.frames) + 2))
    assert all(set(frame) == {"n", "layers", "error"} for frame in frames)
    assert [frame["error"] is None for frame in frames] == [True] * len(made.frames) + [False]
    found, number = [], 0
    for line in lines:
        number = line.get("n", number)
        if "datagram" in line:
            assert set(line) == {"datagram"}
            found.append(
                (number, *(line["datagram"][name] for name in ("src", "dst", "size", "payload_hex")))
            )
    assert found == made.datagrams


def test_the_table_has_a_line_a_frame(dump: Any, tmp_path: Path) -> None:
    made = captures.traffic(seed=3, datagrams=5)
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, [*made.frames, b"\xff" * 20]))
    code, out, _ = dump(file)
    assert code == 0
    assert len(out.splitlines()) == len(made.frames) + 1 + len(made.datagrams)
    assert "802.15.4  !! bad-fcs: " in out.splitlines()[-1]
    assert made.datagrams[0][1] in out


def test_contexts(dump: Any, tmp_path: Path) -> None:
    frame = captures.MacFrame(captures.FrameKind.DATA, 1, 1, B, A, bytes.fromhex("7af7103b"), version=1)
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, [frame.emit()]))
    _, out, _ = dump(file, "--json", "--context", "0=2001:db8:2::/64", "--context", "1=2001:db8:1::")
    datagram = json.loads(out.splitlines()[1])["datagram"]
    assert (datagram["src"], datagram["dst"]) == ("2001:db8:1::1", "2001:db8:2::fe")
    code, out, err = dump(file, "--json")
    line, datagram = map(json.loads, out.splitlines())
    assert line["error"].startswith("context-missing: an address needs context 1")
    assert (datagram["datagram"]["src"], datagram["datagram"]["dst"]) == ("::1", "::fe")
    assert "--context N=PREFIX" in err
    assert code == 0


@pytest.mark.parametrize(
    "context", ["0", "16=2001:db8::/64", "-1=::", "0=2001:db8::/129", "x=::", "0=10.0.0.0/8", ""]
)
def test_bad_contexts(dump: Any, tmp_path: Path, context: str) -> None:
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, []))
    code, out, err = dump(file, f"--context={context}")
    assert (code, out) == (2, "")
    assert "remedy: write it like --context 0=2001:db8::/64" in err


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "starts with 89 50 4e 47"),
        (captures.capture(105, [b"\0"]), "link type 105"),
        (captures.capture(195, [])[:20], "a pcap header has 24"),
    ],
)
def test_other_files_end_with_a_clear_error(dump: Any, tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "air.pcap"
    file.write_bytes(content)
    code, out, err = dump(file, "--json")
    assert (code, out) == (2, "")
    assert what in err
    assert "expected: " in err
    assert "remedy: " in err
    assert "Traceback" not in err


def test_what_came_before_a_cut_is_shown(dump: Any, tmp_path: Path) -> None:
    made = captures.traffic(seed=4, datagrams=3)
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, made.frames)[:-1])
    code, out, err = dump(file, "--json")
    assert code == 2
    assert json.loads(out.splitlines()[-1])
    assert sum('"n"' in line for line in out.splitlines()) == len(made.frames) - 1
    assert "1 bytes short" in err


@pytest.mark.parametrize("name", ["missing.pcap", ""])
def test_files_that_cannot_be_read(dump: Any, tmp_path: Path, name: str) -> None:
    code, out, err = dump(tmp_path / name)
    assert (code, out) == (2, "")
    assert "remedy: " in err


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", captures.capture(195, []), captures.capture(1, [])]), st.binary(max_size=300))
def test_any_bytes(dump: Any, tmp_path: Path, start: bytes, data: bytes) -> None:
    file = tmp_path / "any.pcap"
    file.write_bytes(start + data)
    code, out, err = dump(file, "--json")
    assert code in (0, 2)
    assert (code == 2) == ("remedy: " in err)
    assert all("n" in json.loads(line) or "datagram" in json.loads(line) for line in out.splitlines())
