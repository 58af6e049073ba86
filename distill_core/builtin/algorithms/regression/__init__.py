"""Methods that regress on the features of networks that train along: frepo, rcig."""
