#!/usr/bin/python3
"""The AI service's process. `build` creates the folder `vendor`."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "vendor"))
# One thread for the linear algebra: predictions of one text gain nothing from more.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from ai_server.process import main

main()
