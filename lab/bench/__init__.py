"""Measurements of parts against a peer or a limit: `slimwire bench ...`.

Every figure comes from one run that alternates between what it compares, so that a busy machine slows both
alike; what is printed is the median.
"""
