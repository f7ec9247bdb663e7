"""Which hosts may own which move groups, and what a host gets for it: its guard, its fence, its refreshes."""
