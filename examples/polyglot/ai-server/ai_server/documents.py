"""A client of the database service: JSON documents, deadlines, retries of what may be repeated, errors that name it."""

import asyncio
import json

import database_service_pb2 as messages
import grpc
from database_service_pb2_grpc import DatabaseServiceStub

from ai_server import trace
from ai_server.channel import Channel
from ai_server.problem import from_dependency

# In seconds: the limit of a call, and the pauses before it is repeated.
DEADLINE = 15
PAUSES = (0.1, 0.2, 0.4)


class Documents:
    def __init__(self, database: Channel):
        self.database = database

    async def create(self, collection: str, document: dict) -> str:
        """Stores a new document and returns its id."""
        request = messages.CreateRequest(collection=collection, data=json.dumps(document))
        created = await self._call(lambda stub, **options: stub.Create(request, **options), pauses=())
        return created.id

    async def read(self, collection: str, document: str) -> dict | None:
        request = messages.ReadRequest(collection=collection, id=document)
        found = await self._call(lambda stub, **options: unless_missing(stub.Read(request, **options)))
        return found and json.loads(found.data)

    async def delete(self, collection: str, document: str) -> None:
        """Deletes a document if it exists."""
        request = messages.DeleteRequest(collection=collection, id=document)
        await self._call(lambda stub, **options: unless_missing(stub.Delete(request, **options)))

    async def query(self, collection: str, query: dict) -> list[tuple[str, dict]]:
        """All matching documents with their ids, oldest first."""
        request = messages.QueryRequest(collection=collection, query=json.dumps(query))

        async def results(stub, **options):
            return [(found.id, json.loads(found.data)) async for found in stub.Query(request, **options)]

        return await self._call(results)

    async def _call(self, call, pauses=PAUSES):
        for pause in (*pauses, None):
            stub = DatabaseServiceStub(self.database.open())
            try:
                return await call(stub, timeout=DEADLINE, metadata=trace.current().metadata())
            except grpc.aio.AioRpcError as error:
                if pause is None or error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise from_dependency(error, self.database.name) from None
            await asyncio.sleep(pause)


async def unless_missing(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return None
        raise
