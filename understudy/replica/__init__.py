"""A replica on demand: what it should be, what it costs, how it comes up and goes away."""
