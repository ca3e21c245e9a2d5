"""Stand-ins for hardware that no computer has, at the level of pins and registers; run by real MicroPython.

Put into sys.modules before the firmware asks for `machine` or `camera`. What a chip measures is a function of
the sample's number and the channel, in units of physics, so that a wrong range or a wrong order shows.
"""

import sys

levels = {}  # of a pin: a function from the sample's number to read_u16's value
chips = {}  # by I2C address
bus = []  # what the bus was opened with
faults = [0]  # the transaction, counted from now, that nobody acknowledges


class Module:
    pass


class Pin:
    def __init__(self, number):
        self.number = number


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin):
        if pin.number not in levels:
            raise ValueError("invalid pin")
        self.pin, self.range, self.n = pin.number, None, 0

    def atten(self, value):
        self.range = value

    def read_u16(self):
        assert self.range == ADC.ATTN_11DB
        self.n += 1
        return levels[self.pin](self.n - 1)


class I2C:
    def __init__(self, number, *, scl, sda, freq):
        bus[:] = [number, scl.number, sda.number, freq]

    def scan(self):
        return sorted(chips)

    def _chip(self, address):
        if faults[0]:
            faults[0] -= 1
            if not faults[0]:
                raise OSError(19)
        if address not in chips:
            raise OSError(19)
        return chips[address]

    def readfrom_mem(self, address, register, n):
        out = bytearray(n)
        self.readfrom_mem_into(address, register, out)
        return bytes(out)

    def readfrom_mem_into(self, address, register, out):
        chip = self._chip(address)
        for i in range(len(out)):
            out[i] = chip.read(register + i)

    def writeto_mem(self, address, register, data):
        self._chip(address).write(register, data[0])


def measured(n, channel):
    """What is there to measure: g on channels 0..2, degrees a second on 3..5."""
    return ((n * 7 + channel * 13) % 40 - 20) / 10 if channel < 3 else (n * 31 + channel * 50) % 800 - 400


class Chip:
    """Registers; a new sample every third time that the status is read, and only once the chip was set up."""

    def __init__(self, who):
        self.who = who
        self.resets = 0
        self.power_up()

    def power_up(self):
        self.registers = bytearray(128)
        self.registers[self.who_at] = self.who
        self.n = -1  # number of the sample in the registers
        self.polls = 0

    def raw(self, channel, full_scale):
        value = int(measured(self.n, channel) / full_scale * 32768)
        return min(max(value, -32768), 32767) & 0xFFFF

    def poll(self, mask):
        if not self.running():
            return 0
        self.polls += 1
        if self.polls % 3:
            return 0
        self.n += 1
        self.sample()
        return mask

    def write(self, register, value):
        self.registers[register] = value


class Mpu6050(Chip):
    who_at = 0x75

    def power_up(self):
        super().power_up()
        self.registers[0x6B] = 0x40  # asleep

    def running(self):
        return self.registers[0x6B] & 0x47 == 1 and self.registers[0x38] & 1

    def rate(self):
        return 1000 // (1 + self.registers[0x19])

    def write(self, register, value):
        if register == 0x6B and value & 0x80:
            self.resets += 1
            return self.power_up()
        super().write(register, value)

    def read(self, register):
        return self.poll(1) if register == 0x3A else self.registers[register]

    def sample(self):
        g = 2 << (self.registers[0x1C] >> 3)
        dps = 250 << (self.registers[0x1B] >> 3)
        for channel in range(6):
            value = self.raw(channel, g if channel < 3 else dps)
            at = 0x3B + 2 * channel + (2 if channel > 2 else 0)
            self.registers[at] = value >> 8
            self.registers[at + 1] = value & 0xFF


class Lsm6ds(Chip):
    who_at = 0x0F

    def running(self):
        return self.registers[0x10] >> 4 and self.registers[0x11] >> 4 and self.registers[0x12] == 0x44

    def rate(self):
        assert self.registers[0x10] >> 4 == self.registers[0x11] >> 4
        return (0, 12, 26, 52, 104, 208, 416, 833, 1660)[self.registers[0x10] >> 4]

    def write(self, register, value):
        if register == 0x12 and value & 1:
            self.resets += 1
            return self.power_up()
        super().write(register, value)

    def read(self, register):
        return self.poll(3) if register == 0x1E else self.registers[register]

    def sample(self):
        g = (2, 16, 4, 8)[self.registers[0x10] >> 2 & 3]
        dps = 250 << (self.registers[0x11] >> 2 & 3)
        for channel in range(6):
            value = self.raw(channel, g if channel < 3 else dps)
            at = 0x28 + 2 * channel if channel < 3 else 0x22 + 2 * (channel - 3)
            self.registers[at] = value & 0xFF
            self.registers[at + 1] = value >> 8


class Camera:
    """micropython-camera-API's class; `picture` is what it sees: from the side to bytes."""

    picture = None
    failing = False
    started = None

    def __init__(self, *, frame_size, pixel_format, **pins):
        if "wrong" in pins:
            raise RuntimeError("failed to initialise")
        Camera.started = frame_size, pixel_format, pins
        self.taken = None

    def capture(self):
        assert self.taken is None, "the driver has one buffer"
        self.taken = memoryview(Camera.picture(Camera.started[0], Camera.started[1]))
        return None if Camera.failing else self.taken

    def free_buffer(self):
        self.taken = None

    def deinit(self):
        Camera.started = None


def install():
    """Be `machine`, and a `camera` of micropython-camera-API."""
    machine = Module()
    machine.ADC, machine.I2C, machine.Pin = ADC, I2C, Pin
    sys.modules["machine"] = machine
    module = Module()
    module.Camera = Camera
    module.FrameSize, module.PixelFormat = Module(), Module()
    module.FrameSize.R96X96, module.FrameSize.R240X240 = 96, 240
    module.PixelFormat.GRAYSCALE, module.PixelFormat.RGB565 = "grey", "565"
    sys.modules["camera"] = module


def install_functions():
    """Be a `camera` of micropython-camera-driver, which has no classes."""
    module = Module()
    module.FRAME_96X96, module.FRAME_240X240, module.GRAYSCALE, module.RGB565 = 96, 240, "grey", "565"
    state = []

    def init(number, *, format, framesize, **options):
        if "wrong" in options:
            return False
        state[:] = [framesize, format]
        return True

    module.init = init
    module.capture = lambda: bytes(Camera.picture(state[0], state[1]))
    module.deinit = state.clear
    sys.modules["camera"] = module
