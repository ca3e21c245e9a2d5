"""The lab: an emulated radio (`sim`), attackers (`attacks`), measurements (`bench`) and the demo (`demo`).

Nothing here is needed to run Slimwire. It is the one room that may import every other, and the only one that
constructs a verifier which does not verify (`lab.attacks.pass_through`).
"""
