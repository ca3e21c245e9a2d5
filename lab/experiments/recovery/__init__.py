"""`slimwire lab recovery`: selective recovery (RFC 8931) beside RFC 4944 with retries, over links that lose.

Largest datagrams go from a device to the gateway's own receiver, on one 802.15.4 channel that is simulated
event by event (`lab.experiments.attack.radio`). `station` is a radio that keeps to CSMA-CA, `links` what is
lost, `senders` the ways to get a datagram across, `run` the experiment, `report` tells.
"""
