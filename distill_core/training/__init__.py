"""Ordinary training of networks, and expert trajectories.

May import: engine and what stands below it.
"""
