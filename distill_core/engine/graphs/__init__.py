"""CUDA graphs: captured once, replayed in every step. A part of the engine."""
