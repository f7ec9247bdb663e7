"""The replica: a group restored into the idle one of two slots, published by one rename, promoted by renames."""
