# What goes to /main.py of a board: the agent starts after each reset.
import firmware.main

if firmware.main.run("/") == 3:  # new keys
    import machine

    machine.reset()
