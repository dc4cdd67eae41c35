"""Family maps, one file each: from a stock model to its parts. `models/family.py` lists them."""
