"""Tools for class cells, labels and class orders.

May import: config, contracts, system and registry.
"""
