#!/usr/bin/python3
"""The AI service's process. `build` creates the folder `vendor`."""

import os
import pathlib
import sys

# Without links: what is imported later belongs to the same release.
folder = pathlib.Path(__file__).resolve().parent
sys.path[:1] = [str(folder), str(folder / "vendor")]
# One thread for the linear algebra: predictions of one text gain nothing from more.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# No further processes either.
os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")
# gRPC's own lines are not JSON, and faults of callers are not faults of the service.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from ai_server.process import main

main()
