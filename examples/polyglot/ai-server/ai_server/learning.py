"""The thread that does all learning, one model at a time.

It imports scikit-learn first, which takes most of the time of a start: the port is open meanwhile.
"""

import asyncio
import concurrent.futures

from ai_server.sample import Sample


class Learning:
    def __init__(self):
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "learning")
        # Done when scikit-learn is imported.
        self.ready = self.run(_model)

    def run(self, work, *arguments) -> asyncio.Future:
        """Runs a function when the thread is free, and returns its result."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def learn(self, sample: Sample) -> asyncio.Future:
        """Returns a model of the sample."""
        return self.run(lambda: _model().Model(sample.examples))


def _model():
    from ai_server import model

    return model
