"""The thread that does all learning, one model at a time: it takes turns with the thread that answers calls.

It imports scikit-learn first, which takes most of the time of a start: the port is open meanwhile.
"""

import asyncio
import concurrent.futures
import os
import threading

from ai_server import log
from ai_server.sample import Sample

# Added to the thread's niceness: where nothing is computed in Python, calls go first.
NICENESS = 10


class Learning:
    def __init__(self):
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "learning")
        # Done when scikit-learn is imported.
        self.ready = asyncio.wrap_future(self._thread.submit(_start))

    async def run(self, work, *arguments):
        """Runs a function when the thread is free, and returns its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def learn(self, sample: Sample):
        """A model of the sample."""
        return await self.run(_learn, sample)


def _start() -> None:
    import ai_server.model  # noqa: F401

    log.debug("scikit-learn imported")
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _learn(sample: Sample):
    from ai_server.model import Model

    return Model(sample.examples)
