"""Trust is policy, apart from the cryptography: it decides budgets and order of service.

It never decides whether a genuine fragment is looked at, and it learns from authenticated evidence only:
under spoofing, the source address of a forged frame *is* the victim's (docs/protocol.md, section 4).
"""

from security.trust.engine import Cause, Change, Passage, Quarantining, Standing, TrustEngine
from security.trust.paper import PaperTrust
from security.trust.predictive import PredictiveTrust

__all__ = [
    "Cause",
    "Change",
    "PaperTrust",
    "Passage",
    "PredictiveTrust",
    "Quarantining",
    "Standing",
    "TrustEngine",
]
