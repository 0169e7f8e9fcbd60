"""The models in memory. Predictions use the last version while the next one is learned here, or loaded because another
replica stored it. A model that nobody uses leaves memory, and is loaded again at its next use."""

import asyncio
import contextlib
import time

import grpc

from ai_server import log, trace
from ai_server.learning import Learning
from ai_server.model_store import ModelStore
from ai_server.problem import Problem, missing
from ai_server.request import check_labels
from ai_server.sample import Sample

# Between two looks for newer versions, in seconds.
PAUSE = 2
# The most attempts to train a model that other replicas keep replacing.
ATTEMPTS = 5


class Entry:
    """One model: the version in memory, and its use since the service started."""

    def __init__(self):
        self.model = None
        # The version that was last in memory; 0 before the first.
        self.version = 0
        self.accuracy = 0.0
        self.used = time.monotonic()
        self.predictions = 0
        self.confidence = 0.0
        # Trainings in progress.
        self.trainings = 0
        self.loading = asyncio.Lock()
        # Held by the training that learns and stores; others wait for their turn.
        self.turn = asyncio.Lock()

    def put(self, model, version: int) -> None:
        self.model, self.version, self.accuracy = model, version, model.accuracy

    def use(self) -> None:
        self.used = time.monotonic()

    def count(self, confidence: float) -> None:
        self.predictions += 1
        self.confidence += confidence

    def average_confidence(self) -> float:
        return self.confidence / self.predictions if self.predictions else 0.0


class Registry:
    def __init__(self, store: ModelStore, learning: Learning, idle: int):
        self.store = store
        self.learning = learning
        self.idle = idle
        self.entries: dict[str, Entry] = {}

    async def open(self, name: str) -> Entry:
        """The entry of a trained model, which is loaded first if it is not in memory."""
        entry = self._entry(name)
        entry.use()
        try:
            if entry.model is None:
                async with entry.loading:
                    # It may have been loaded meanwhile.
                    if entry.model is None:
                        await self._load(name, entry)
        finally:
            self._forget(name)
        if entry.model:
            return entry
        if entry.trainings:
            message = f"model `{name}` is being trained for the first time: wait for its end"
            raise Problem(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNTRAINED", message, model=name)
        raise missing("model", name, "MODEL_NOT_FOUND", f"there is no model `{name}`: train it first")

    @contextlib.contextmanager
    def training(self, name: str):
        """A training in progress: the model exists, but may have learned nothing."""
        entry = self._entry(name)
        entry.trainings += 1
        try:
            yield
        finally:
            entry.trainings -= 1
            self._forget(name)

    async def train(self, name: str, new: Sample) -> tuple[int, float]:
        """Learns new examples and stores the model; returns the number of learned examples and the accuracy."""
        entry = self._entry(name)
        async with entry.turn:
            for _ in range(ATTEMPTS):
                base, known = await self.store.load(name)
                sample = known + new
                check_labels(sample.labels)
                model = await self.learning.learn(sample)
                version = await self.store.save(name, sample, base)
                if version:
                    entry.use()
                    entry.put(model, version)
                    log.info("trained", model=name, version=version, examples=sample.learned)
                    return sample.learned, model.accuracy
        message = f"another replica trained model `{name}` meanwhile: send the examples again"
        raise Problem(grpc.StatusCode.ABORTED, "MODEL_CHANGED", message, retry_after=1)

    async def follow(self) -> None:
        """Loads all models, then newer versions of other replicas; unloads what is not used. Never returns."""
        failed = False
        while True:
            trace.begin()
            try:
                await self._load_newer()
                failed = False
            except Problem as problem:
                if not failed:
                    log.warn("failed to look for newer models; retrying", cause=str(problem))
                failed = True
            self._unload()
            await asyncio.sleep(PAUSE)

    async def _load_newer(self) -> None:
        for head in await self.store.heads():
            entry = self._entry(head.model)
            # The next use loads an unloaded model, and a training brings its own version.
            unloaded = entry.version and entry.model is None
            if head.version <= entry.version or unloaded or entry.turn.locked():
                continue
            try:
                async with entry.loading:
                    if head.version > entry.version:
                        await self._load(head.model, entry)
            except Problem as problem:
                if problem.code != grpc.StatusCode.DATA_LOSS:
                    raise
                # It is tried again at its next use.
                entry.version = head.version

    async def _load(self, name: str, entry: Entry) -> None:
        version, sample = await self.store.load(name)
        if not version:
            return
        model = await self.learning.learn(sample)
        # A training may have brought a newer version meanwhile.
        if version >= entry.version:
            entry.put(model, version)
            log.info("loaded", model=name, version=version)

    def _unload(self) -> None:
        for name, entry in self.entries.items():
            if entry.model and time.monotonic() - entry.used >= self.idle:
                entry.model = None
                log.info("unloaded: not used", model=name, version=entry.version)

    def _entry(self, name: str) -> Entry:
        return self.entries.setdefault(name, Entry())

    def _forget(self, name: str) -> None:
        """Removes the entry of a model that does not exist, so that such entries do not pile up."""
        entry = self.entries.get(name)
        if entry and not (entry.version or entry.trainings or entry.loading.locked()):
            del self.entries[name]
