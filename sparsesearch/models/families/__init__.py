"""Family maps, one file each: from a stock model to its description. `models/family.py` lists them."""
