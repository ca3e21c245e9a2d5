# What goes to /main.py of a board: the agent starts after each reset.
import firmware.main

firmware.main.run("/")
