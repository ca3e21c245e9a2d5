"""Linux-class devices: the firmware's agent on CPython, its head on LiteRT, run and installed as a service.

`device.head.LiteRtHead` stands in for the firmware's kernels, `device.process.run` is the process,
`device.sources` has the sources that only Linux has, and `device.install` makes a service of it.
"""
