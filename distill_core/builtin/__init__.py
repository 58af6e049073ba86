"""The components that come with distill; found by an entry point like those of anyone else."""
