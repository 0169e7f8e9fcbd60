"""The stored models: their examples, as documents of the database service. A model is fitted again when it is loaded.

    ai-python-models    {"model": ID, "version": N, "parts": [ID...]}   a head; it is created and deleted, never changed
    ai-python-examples  {"model": ID, "data": TEXT}                     as many as the examples need

The head of the highest version counts; of several, the first by id, which is the first that was created. So one create
replaces a model, and of replicas that start from the same version only one succeeds. A process that is killed leaves the
last version and perhaps parts that no head names, which the next save deletes.
"""

import dataclasses

import grpc

from ai_server import log
from ai_server.documents import Documents
from ai_server.learning import Learning
from ai_server.problem import Problem
from ai_server.sample import Sample

HEADS, PARTS = "ai-python-models", "ai-python-examples"
# The fields of a head; other documents are not heads.
HEAD = {"model", "version", "parts"}
# The text of a part; a document has at most 4 MiB.
PART = 2 << 20
# A head may be replaced while its parts are read.
READS = 3


@dataclasses.dataclass(frozen=True)
class Head:
    id: str
    model: str
    version: int
    parts: list[str]


class ModelStore:
    def __init__(self, documents: Documents, learning: Learning):
        self.documents = documents
        self.learning = learning

    async def heads(self) -> list[Head]:
        """The current heads of all models."""
        return list(_current(await self._heads({})).values())

    async def load(self, model: str) -> tuple[int, Sample]:
        """The version of a model and its examples; version 0 if it does not exist."""
        for _ in range(READS):
            head = _current(await self._heads({"model": model})).get(model)
            if head is None:
                return 0, Sample()
            parts = [await self.documents.read(PARTS, part) for part in head.parts]
            if all(parts):
                return head.version, await self._decoded(model, parts)
        raise damaged(model, "parts that its head names are missing")

    async def save(self, model: str, sample: Sample, base: int) -> int | None:
        """Replaces version `base`, and returns the new version; None if another replica was faster."""
        data = await self.learning.run(sample.encode)
        parts = []
        for start in range(0, len(data), PART):
            part = {"model": model, "data": data[start : start + PART]}
            parts.append(await self.documents.create(PARTS, part))
        head = {"model": model, "version": base + 1, "parts": parts}
        own = await self.documents.create(HEADS, head)
        heads = await self._heads({"model": model})
        current = _current(heads)[model]
        try:
            await self._sweep(current, heads)
        except Problem as problem:
            log.warn("failed to delete an earlier version", model=model, cause=str(problem))
        return current.version if current.id == own else None

    async def _sweep(self, current: Head, heads: list[Head]) -> None:
        """Deletes all but the current version.

        A part that is older than the current head belongs to it, or to a save that started from an earlier version: that
        one has failed, or will find the current head.
        """
        for head in heads:
            if head.id != current.id:
                await self.documents.delete(HEADS, head.id)
        parts = await self.documents.query(PARTS, {"model": current.model, "$project": {"model": 1}})
        for part, _ in parts:
            if part not in current.parts and part < current.id:
                await self.documents.delete(PARTS, part)

    async def _heads(self, query: dict) -> list[Head]:
        found = await self.documents.query(HEADS, query)
        return [Head(document, **head) for document, head in found if head.keys() == HEAD]

    async def _decoded(self, model: str, parts: list[dict]) -> Sample:
        try:
            return await self.learning.run(Sample.decode, "".join(part["data"] for part in parts))
        except Exception as error:
            # Damaged data can cause any.
            raise damaged(model, error) from None


def _current(heads: list[Head]) -> dict[str, Head]:
    """The current head of each model."""
    current = {}
    for head in sorted(heads, key=lambda head: (-head.version, head.id)):
        current.setdefault(head.model, head)
    return current


def damaged(model: str, cause) -> Problem:
    log.error("a stored model is damaged", model=model, cause=repr(cause))
    message = f"the stored model `{model}` is damaged; train a model with another id"
    return Problem(grpc.StatusCode.DATA_LOSS, "MODEL_DAMAGED", message, model=model)
