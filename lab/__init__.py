"""The practice world: real hosts in containers, on one machine, with nothing outside it."""
