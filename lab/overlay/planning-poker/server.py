#!/usr/bin/python3 -B
"""Stand-in for Planning Poker, for the practice world only (standin/planning_poker.py).

The real one is a Node program; this one keeps the same SQLite file in its working folder.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from standin.core import Place, serve
from standin.planning_poker import build

if __name__ == "__main__":
    environment = {"STANDIN_IMAGE": "planning-poker:1.0.0", **os.environ}
    serve(build(Place(environment, root=Path.cwd())))
