"""Methods that match the trajectories of expert networks: mtt, ftd, tesla."""
