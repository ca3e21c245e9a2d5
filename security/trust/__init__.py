"""Trust is policy, apart from the cryptography: it decides budgets and order of service.

It never decides whether a genuine fragment is looked at, and it learns from authenticated evidence only:
under spoofing, the source address of a forged frame *is* the victim's (docs/protocol.md, section 4).
"""

from security.trust.engine import Cause, Change, TrustEngine
from security.trust.paper import PaperTrust

__all__ = ["Cause", "Change", "PaperTrust", "TrustEngine"]
