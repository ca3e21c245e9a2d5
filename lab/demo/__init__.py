"""`slimwire demo`.

Every tier as a process of its own on this machine, over an emulated radio, under attack.
"""
