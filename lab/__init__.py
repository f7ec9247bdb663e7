"""The practice world: real hosts in containers, and later clouds and storage that behave like the real ones."""
