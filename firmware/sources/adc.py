"""Voltages of analogue pins, sampled at a steady rate: microphones, light, current, vibration.

    "source": {"type": "adc", "pins": [1, 2], "rate_hz": 100}

An image of height * width samples, in time along its rows; channel c is pin c of `pins`. A sample is the
upper 8 bits of `read_u16()`: 0 for 0 V, 255 for full scale (on ESP32 the largest range, about 3.1 V). Waiting
is by the clock, so that an image takes height * width / rate_hz seconds, during which nothing else runs:
choose period_ms longer than that.
"""

from time import sleep_us, ticks_add, ticks_diff, ticks_us

from machine import ADC, Pin

from ..errors import refuse


def open_source(settings, root, shape):
    """One channel of the head's image for each pin. Raises SettingsError where they are not as many."""
    from ..config import Section

    section = Section(settings, "source")
    pins = section.get("pins")
    if not isinstance(pins, list) or len(pins) != shape[2]:
        refuse("source: pins is %r" % (pins,), "a list of %d, which head.bin takes" % shape[2], "correct it")
    interval = 1000000 // section.number("rate_hz", 1, 20000)
    inputs = []
    for pin in pins:
        try:
            adc = ADC(Pin(pin))
        except (ValueError, TypeError) as error:
            refuse("source: pin %r: %s" % (pin, error), "a pin with an ADC", "see the board's pinout")
        if hasattr(ADC, "ATTN_11DB"):
            adc.atten(ADC.ATTN_11DB)
        inputs.append(adc)
    return Voltages(inputs, interval)


class Voltages:
    """inputs: objects with read_u16(); interval: between two samples, in us."""

    def __init__(self, inputs, interval):
        self._inputs = inputs
        self._interval = interval

    def capture_into(self, buffer):
        inputs = self._inputs
        due = ticks_us()
        at = 0
        while at < len(buffer):
            wait = ticks_diff(due, ticks_us())
            if wait > 0:
                sleep_us(wait)
            for adc in inputs:
                buffer[at] = adc.read_u16() >> 8
                at += 1
            due = ticks_add(due, self._interval)
        return -1

    def close(self):
        pass
