"""Scripts that run on MicroPython, not here."""
