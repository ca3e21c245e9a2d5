"""What a device's radio draws: Microchip (Atmel) AT86RF233, data sheet 8351, at 3.0 V.

The data sheet's headline currents: TRX_OFF 300 µA, RX_ON 11.8 mA in listen mode, BUSY_TX 13.8 mA at +4 dBm.
The microcontroller is not counted, nor the gateway, which hangs on the mains.
"""

from dataclasses import dataclass

VOLTS = 3.0
TX_MA = 13.8
RX_MA = 11.8
OFF_MA = 0.3


@dataclass(slots=True)
class Meter:
    """Seconds in each state of one radio, beside sleep.

    Attributes:
        tx: transmitting.
        rx: sensing the channel, turning around, waiting for an ack and receiving it.
        off: TRX_OFF: awake in a back-off.
    """

    tx: float = 0.0
    rx: float = 0.0
    off: float = 0.0

    @property
    def millijoules(self) -> float:
        """Energy so far, mJ."""
        return VOLTS * (self.tx * TX_MA + self.rx * RX_MA + self.off * OFF_MA)
