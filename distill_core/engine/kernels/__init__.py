"""Blocks of the ConvNet: compiled C for the CPU, Triton for CUDA, PyTorch as the reference."""
