"""What differs between boards, one module per port, found by what the Python at hand offers. Used at start.

A port has
- `unique_id() -> bytes`: the chip's own number, or b"" where there is none; enrolment makes an EUI-64 of it;
- `connect(wifi)`: bring the network up, with the settings' `wifi` section or None; OSError where that fails;
- `flush(file)`: return once what was written to the file is on the medium;
- `open_log(path)`: (file, write): a text file, and what puts a line into it that outlives the program.
"""


def find():
    """The port of the board that this runs on."""
    try:
        import esp32  # noqa: F401  only ESP32 boards have it

        from . import esp32 as port
    except ImportError:
        try:
            import rp2  # noqa: F401  only RP2 boards have it

            from . import rp2 as port
        except ImportError:
            from . import unix as port
    return port
