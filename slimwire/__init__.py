"""The small shared base of every room: the command line, errors a person meets, logging, output.

It imports no other room at module level, so `slimwire --help` is quick and an installation may lack extras.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("slimwire")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
