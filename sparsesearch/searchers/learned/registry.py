"""The searches by gradient, by name."""

from __future__ import annotations

from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.searchers.learned.besa import BESASearcher
from sparsesearch.searchers.learned.bip import BiPSearcher, HydraSearcher
from sparsesearch.searchers.learned.gates import CoFiSearcher, CompressoSearcher, GatesSearcher, ShearedSearcher
from sparsesearch.searchers.learned.lapp import LAPPSearcher
from sparsesearch.searchers.learned.maskllm import MaskLLMSearcher
from sparsesearch.searchers.learned.oto import OTOSearcher
from sparsesearch.searchers.learned.pdp import PDPSearcher
from sparsesearch.searchers.learned.slimming import SlimmingSearcher
from sparsesearch.searchers.learned.tas import TASSearcher

LEARNED: dict[str, type[LearnedSearcher]] = {
    "bip": BiPSearcher,
    "hydra": HydraSearcher,
    "gates": GatesSearcher,
    "cofi": CoFiSearcher,
    "sheared": ShearedSearcher,
    "compresso": CompressoSearcher,
    "tas": TASSearcher,
    "besa": BESASearcher,
    "maskllm": MaskLLMSearcher,
    "pdp": PDPSearcher,
    "lapp": LAPPSearcher,
    "oto": OTOSearcher,
    "slimming": SlimmingSearcher,
}
