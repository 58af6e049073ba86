"""Several processes that make one run.

May import: config, contracts, system and registry.
"""
