"""The weights of every genome: the level store on disk, and supernets that run genomes."""

from sparsesearch.supernet.build import StoreBuilder
from sparsesearch.supernet.stitched import StitchedSupernet
from sparsesearch.supernet.store import LevelStore, store_key

__all__ = ["LevelStore", "StitchedSupernet", "StoreBuilder", "store_key"]
