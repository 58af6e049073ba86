"""Methods that match what real and synthetic images do to a network: dc, dsa, dm."""
