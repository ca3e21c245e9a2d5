"""Width control: which width a device should use next, from what its link did lately.

Pure, without a clock.

`types` has what goes in and out, `fixed` a width for everybody, `controller` the rule that ships, `state`
what it keeps of a device.
"""

from edge_server.width.controller import ChanceConstrained
from edge_server.width.fixed import FixedWidth
from edge_server.width.types import Choice, Sample, WidthOption, WidthPolicy

__all__ = ["ChanceConstrained", "Choice", "FixedWidth", "Sample", "WidthOption", "WidthPolicy"]
