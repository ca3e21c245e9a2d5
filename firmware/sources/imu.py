"""An inertial sensor on I2C: MPU-6050, MPU-6500, MPU-9250; LSM6DS3, LSM6DSL, LSM6DSO, LSM6DSOX.

    "source": {"type": "imu", "scl": 22, "sda": 21, "rate_hz": 100, "accel_g": 4, "gyro_dps": 500}

`bus` (0) is the number of the I2C bus, `address` is looked for where it is missing. An image is a window of
height * width samples, oldest first, of 3 channels (acceleration x, y, z) or 6 (and rotation x, y, z), as the
head takes them: 128 is 0, 0 and 255 are the ends of the range. The sensor's own clock paces them: rate_hz is
rounded to a rate that it has. While a window is taken nothing else runs; choose period_ms longer than it.

A sensor that does not answer, or lost its power, fails that one capture, and is set up anew at the next.
"""

from time import sleep_ms

from machine import I2C, Pin

from ..compat import const
from ..errors import refuse

_RANGE_G = (2, 4, 8, 16)
_RANGE_DPS = (250, 500, 1000, 2000)
_LONGEST_MS = const(500)  # without a new sample


class Mpu:
    """InvenSense MPU-6050 and its successors ("MPU-6000 Register Map and Descriptions", revision 4.2)."""

    name = "MPU-6050"
    addresses = (0x68, 0x69)
    who_at = 0x75
    who = (0x68, 0x70, 0x71, 0x73)
    length = 14  # acceleration, temperature, rotation, each big endian
    at = 0x3B
    first = (0, 2, 4, 8, 10, 12)  # where each channel's upper byte is
    status_at, ready = 0x3A, 1

    @staticmethod
    def set_up(write, rate, accel, gyro):
        """rate in Hz; accel, gyro: index of the range."""
        write(0x6B, 0x80)  # PWR_MGMT_1: reset
        sleep_ms(100)
        write(0x6B, 0x01)  # awake, clocked by the gyroscope
        # CONFIG: low pass at about half the rate, which also makes the sample clock 1 kHz.
        write(0x1A, 1 if rate > 200 else 2 if rate > 100 else 3 if rate > 50 else 4)
        write(0x19, min(max(1000 // rate, 1), 256) - 1)  # SMPLRT_DIV
        write(0x1B, gyro << 3)
        write(0x1C, accel << 3)
        write(0x38, 1)  # INT_ENABLE: else the status tells of no new sample


class Lsm:
    """STMicroelectronics LSM6DS3 and its successors (datasheet DocID026899, revision 10)."""

    name = "LSM6DS"
    addresses = (0x6A, 0x6B)
    who_at = 0x0F
    who = (0x69, 0x6A, 0x6C)
    length = 12  # rotation, acceleration, each little endian
    at = 0x22
    first = (7, 9, 11, 1, 3, 5)
    status_at, ready = 0x1E, 3

    @staticmethod
    def set_up(write, rate, accel, gyro):
        write(0x12, 0x01)  # CTRL3_C: reset
        sleep_ms(10)
        write(0x12, 0x44)  # no update within a reading, address counts up
        output = 1
        while 26 << output - 1 < rate and output < 7:
            output += 1
        output += 1  # 2: 26 Hz, 3: 52 ... 8: 1.66 kHz
        write(0x10, output << 4 | (0, 2, 3, 1)[accel] << 2)
        write(0x11, output << 4 | gyro << 2)


def open_source(settings, root, shape):
    """An Imu for images of 3 or 6 channels. Raises SettingsError: other channels, or no such sensor."""
    from ..config import Section

    section = Section(settings, "source")
    if shape[2] not in (3, 6):
        refuse("head.bin takes %d channels" % shape[2], "3 or 6 of an IMU", "use a head made for one")
    rate = section.number("rate_hz", 4, 1600)
    accel = section.choice("accel_g", _RANGE_G, 4)
    gyro = section.choice("gyro_dps", _RANGE_DPS, 500)
    bus = section.number("bus", 0, 3, 0)
    pins = [Pin(section.number(pin, 0, 255)) for pin in ("scl", "sda")]
    try:
        i2c = I2C(bus, scl=pins[0], sda=pins[1], freq=400000)
    except (ValueError, TypeError) as error:
        refuse("source: I2C bus %d: %s" % (bus, error), "a bus and pins that this board has", "correct them")
    chip, address = _find(i2c, section.number("address", 0, 127, 0))
    if not chip:
        found = ", ".join(["0x%02x" % one for one in i2c.scan()]) or "nothing"
        refuse(
            "no known IMU answers on I2C bus %d: %s is there" % (bus, found),
            "an MPU-6050 at 0x68 or 0x69, or an LSM6DS at 0x6a or 0x6b",
            "look at power, wiring and pull-ups",
        )
    return Imu(i2c, address, chip, shape[2], rate, _RANGE_G.index(accel), _RANGE_DPS.index(gyro))


def _find(i2c, given):
    """(chip, address) of the sensor at the address given, or anywhere for 0; (None, 0): there is none."""
    for chip in (Mpu, Lsm):
        for address in (given,) if given else chip.addresses:
            try:
                if i2c.readfrom_mem(address, chip.who_at, 1)[0] in chip.who:
                    return chip, address
            except OSError:
                pass  # nobody answers there
    return None, 0


class Imu:
    def __init__(self, i2c, address, chip, channels, rate, accel, gyro):
        self._i2c = i2c
        self._address = address
        self._chip = chip
        self._first = chip.first[:channels]
        self._settings = rate, accel, gyro
        self._status = bytearray(1)
        self._sample = bytearray(chip.length)
        self._is_set_up = False

    def _write(self, register, value):
        self._i2c.writeto_mem(self._address, register, bytes((value,)))

    def capture_into(self, buffer):
        if not self._is_set_up:
            self._chip.set_up(self._write, *self._settings)
        self._is_set_up = False  # until the window is whole
        at = 0
        while at < len(buffer):
            self._wait()
            self._i2c.readfrom_mem_into(self._address, self._chip.at, self._sample)
            for i in self._first:
                buffer[at] = self._sample[i] ^ 0x80
                at += 1
        self._is_set_up = True
        return -1

    def _wait(self):
        """Until there is a sample that was not read yet; OSError where none comes."""
        chip = self._chip
        for _ in range(_LONGEST_MS):
            self._i2c.readfrom_mem_into(self._address, chip.status_at, self._status)
            if self._status[0] & chip.ready == chip.ready:
                return
            sleep_ms(1)
        raise OSError("%s gives no samples" % chip.name)

    def close(self):
        pass
