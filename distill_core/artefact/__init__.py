"""What a run leaves behind: packed, loaded and checked; its pictures and its manifest.

May import: training and what stands below it.
"""
