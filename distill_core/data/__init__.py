"""Real images: read from memory, split, whitened, augmented.

May import: config, contracts, system and registry.
"""
