"""Class orderers that need no words."""
