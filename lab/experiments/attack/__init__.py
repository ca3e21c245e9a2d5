"""`slimwire lab attack`: Slimwire's reception beside the defences that others use, under attack.

One radio channel is simulated event by event on its own clock (`clock`, `radio`, `energy`, `air`): devices
that send genuine messages in the format a defence asks for (`formats`), and one attacker (`attackers`). What
the gateway's antenna gets is recorded once, and played twice to each defence of that format (`defences`):
whole, and without the attacker's frames. `judge` counts, `compare` says which of two rows is better, `run`
does all rows. The `slimwire` row is the gateway's own receiver, unchanged.

docs/attack-lab.md says how to read the table.
"""
