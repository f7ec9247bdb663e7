"""Moving traffic: which names point at which host's tunnel, who owns a move group, and how that changes."""
