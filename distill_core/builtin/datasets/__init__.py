"""Datasets: each reads real images from somewhere and returns them as `RawData`."""
