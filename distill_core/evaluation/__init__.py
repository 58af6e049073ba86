"""How good a training set is: fresh networks, baselines, scores.

May import: training and what stands below it.
"""
