"""Training many models as one batch."""

from .compute import EXACT, Compute
from .loop import Run, train
from .network import Models, Network, initialise
from .optimisers import SGD, Adam
from .probes import Probes, fit_probes

__all__ = ["EXACT", "SGD", "Adam", "Compute", "Models", "Network", "Probes", "Run", "fit_probes", "initialise", "train"]
