"""What is protected on this host, where it lies, and what was done for it."""
