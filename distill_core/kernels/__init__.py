"""Compiled ConvNet blocks for the CPU: C sources, compiled when first needed."""
