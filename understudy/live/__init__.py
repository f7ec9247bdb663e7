"""A host that already runs, as its owner made it: read it, judge it, take its description over. Writes nothing on it."""
