"""Weak-to-strong generalisation: exact identities, experiments with intervals, and the tools of the book.

Where input cannot be right, every function raises a ValueError that names the argument and the remedy.
"""

from .bregman import GENERALIZED_KL, ITAKURA_SAITO, KL, LOGISTIC, SQUARED, mahalanobis
from .decomposition import Decomposition, decompose
from .gain import Ledger, ledger, performance_gap_recovered
from .intervals import Estimate, crossed_mean, crossed_ratio

__version__ = "0.3.0"
__all__ = ["GENERALIZED_KL", "ITAKURA_SAITO", "KL", "LOGISTIC", "SQUARED", "Decomposition", "Estimate", "Ledger"]
__all__ += ["crossed_mean", "crossed_ratio", "decompose", "ledger", "mahalanobis", "performance_gap_recovered"]
