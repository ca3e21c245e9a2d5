"""`python -m slimwire` is the `slimwire` command."""

from slimwire.cli import main

main()
