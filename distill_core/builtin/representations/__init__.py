"""Representations: whole images, mixtures of a basis, chosen real images."""
