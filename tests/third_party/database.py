"""database.DatabaseService: every method, every operator of a query, every error that a caller can cause."""

import json
import time

import database_service_pb2 as messages
import database_service_pb2_grpc
from checks import INVALID, LIMIT, NOT_FOUND, TIMEOUT, refused, too_late

SERVICE = "database-server"
LARGEST = LIMIT - 1024
PEOPLE = [
    {"name": "ann", "age": 30, "tags": ["red", "new"], "home": {"city": "Recife"}},
    {"name": "bob", "age": 41, "tags": [], "home": {"city": "Olinda"}},
    {"name": "cid", "age": 17, "home": {}},
    {"name": "dee", "age": None, "tags": ["red"]},
]
# A filter, and the names of the people that match it.
FILTERS = [
    ({}, "ann bob cid dee"),
    ({"name": "bob"}, "bob"),
    ({"age": {"$eq": 30}}, "ann"),
    ({"age": None}, "dee"),
    ({"age": {"$ne": 30}}, "bob cid dee"),
    ({"age": {"$gt": 30}}, "bob"),
    ({"age": {"$gte": 30}}, "ann bob"),
    ({"age": {"$lt": 30}}, "cid"),
    ({"age": {"$lte": 30}}, "ann cid"),
    ({"age": {"$gt": 17, "$lt": 41}}, "ann"),
    ({"name": {"$in": ["ann", "dee"]}}, "ann dee"),
    ({"name": {"$nin": ["ann", "dee"]}}, "bob cid"),
    ({"tags": "red"}, "ann dee"),
    ({"tags": {"$exists": True}}, "ann bob dee"),
    ({"tags": {"$exists": False}}, "cid"),
    ({"home.city": "Recife"}, "ann"),
    ({"name": {"$regex": "^[ab]"}}, "ann bob"),
    ({"name": {"$regex": "^A", "$options": "i"}}, "ann"),
    ({"age": {"$not": {"$gte": 30}}}, "cid dee"),
    ({"$and": [{"age": {"$gt": 10}}, {"tags": "new"}]}, "ann"),
    ({"$or": [{"name": "cid"}, {"home.city": "Olinda"}]}, "bob cid"),
    ({"$not": {"name": "ann"}}, "bob cid dee"),
    ({"$sort": {"name": -1}}, "dee cid bob ann"),
    ({"$sort": {"name": 1}, "$skip": 1, "$limit": 2}, "bob cid"),
]
WRONG_OPERANDS = {
    "$gt": {"a": {"$gt": []}},
    "$in": {"a": {"$in": 1}},
    "$nin": {"a": {"$nin": "x"}},
    "$exists": {"a": {"$exists": 1}},
    "$regex": {"a": {"$regex": "("}},
    "$not": {"a": {"$not": 1}},
    "$and": {"$and": {}},
    "$or": {"$or": 1},
    "$sort": {"$sort": {"a": 2}},
    "$skip": {"$skip": -1},
    "$limit": {"$limit": "x"},
    "$project": {"$project": {"a": 1, "b": 0}},
}


class Client:
    def __init__(self, channel):
        self.stub = database_service_pb2_grpc.DatabaseServiceStub(channel)

    def create(self, collection, data):
        text = data if isinstance(data, str) else json.dumps(data)
        return self.stub.Create(messages.CreateRequest(collection=collection, data=text), timeout=TIMEOUT)

    def read(self, collection, id, timeout=TIMEOUT):
        return self.stub.Read(messages.ReadRequest(collection=collection, id=id), timeout=timeout)

    def update(self, collection, id, data):
        text = data if isinstance(data, str) else json.dumps(data)
        return self.stub.Update(messages.UpdateRequest(collection=collection, id=id, data=text), timeout=TIMEOUT)

    def delete(self, collection, id):
        return self.stub.Delete(messages.DeleteRequest(collection=collection, id=id), timeout=TIMEOUT)

    def query(self, collection, query, timeout=TIMEOUT):
        text = query if isinstance(query, str) else json.dumps(query)
        return self.stub.Query(messages.QueryRequest(collection=collection, query=text), timeout=timeout)

    def every_call(self, collection, id):
        """A call of each method, valid except for what the caller of this function chose."""
        return [
            lambda: self.create(collection, {}),
            lambda: self.read(collection, id),
            lambda: self.update(collection, id, {}),
            lambda: self.delete(collection, id),
            lambda: self.query(collection, ""),
        ]

    def clear(self, collection):
        for found in self.query(collection, ""):
            self.delete(collection, found.id)


def checks(channel) -> dict:
    client = Client(channel)
    return {
        f"database: {name}": lambda check=check: check(client)
        for name, check in {
            "create, read, update, delete": create_read_update_delete,
            "queries": queries,
            "a cancelled query": a_cancelled_query,
            "unknown documents": unknown_documents,
            "invalid collections and documents": invalid_documents,
            "invalid queries": invalid_queries,
            "oversized documents and messages": oversized,
            "a deadline": a_deadline,
        }.items()
    }


def create_read_update_delete(client):
    created = client.create("third-party", {"n": 1, "tag": "a"})
    assert created.success and created.id
    assert json.loads(client.read("third-party", created.id).data) == {"n": 1, "tag": "a"}
    assert client.update("third-party", created.id, {"n": 2}).success
    assert json.loads(client.read("third-party", created.id).data) == {"n": 2}
    later = client.create("third-party", {})
    assert later.id > created.id, "ids sort by creation"
    for id in (created.id, later.id):
        assert client.delete("third-party", id).success


def queries(client):
    client.clear("people")
    ids = {person["name"]: client.create("people", person).id for person in PEOPLE}
    for query, expected in FILTERS:
        found = [json.loads(answer.data)["name"] for answer in client.query("people", query)]
        assert found == expected.split(), f"{query}: {found}"
    assert [answer.id for answer in client.query("people", {"_id": ids["cid"]})] == [ids["cid"]]
    kept = [json.loads(answer.data) for answer in client.query("people", {"name": "ann", "$project": {"age": 1}})]
    assert kept == [{"age": 30}], kept
    left = [json.loads(answer.data) for answer in client.query("people", {"name": "cid", "$project": {"home": 0}})]
    assert left == [{"name": "cid", "age": 17}], left
    client.clear("people")
    assert list(client.query("people", "")) == []


def a_cancelled_query(client):
    ids = [client.create("left", {"n": n, "fill": "x" * 20_000}).id for n in range(40)]
    results = client.query("left", "")
    assert next(results).id == ids[0]
    results.cancel()
    assert json.loads(client.read("left", ids[39]).data)["n"] == 39
    client.clear("left")


def a_deadline(client):
    # More than the buffers hold while the client does not read.
    for n in range(8):
        client.create("late", {"n": n, "fill": "x" * 1_000_000})

    def read_too_late():
        results = client.query("late", "", timeout=1)
        time.sleep(1.5)
        return results

    too_late(read_too_late)
    client.clear("late")


def unknown_documents(client):
    for call in (
        lambda: client.read("third-party", "none"),
        lambda: client.update("third-party", "none", {}),
        lambda: client.delete("third-party", "none"),
    ):
        refused(NOT_FOUND, "DOCUMENT_NOT_FOUND", SERVICE, call, resource="third-party/none")


def invalid_documents(client):
    for name in ("", "a b", "a/b", "x" * 65, "a;drop table documents"):
        for call in client.every_call(name, "x"):
            refused(INVALID, "COLLECTION_NAME_INVALID", SERVICE, call, field="collection")
    for data, offset in (("{not json", 1), ("", 0), ('{"a": 1, b}', 9)):
        for call in (
            lambda: client.create("third-party", data),
            lambda: client.update("third-party", "x", data),
        ):
            refused(INVALID, "DOCUMENT_MALFORMED", SERVICE, call, field="data", offset=offset)
    for data in ("[]", "1", "null", '"text"', "{} {}"):
        refused(INVALID, "DOCUMENT_MALFORMED", SERVICE, lambda: client.create("third-party", data), field="data")


def invalid_queries(client):
    def wrong(reason, query, **metadata):
        refused(INVALID, reason, SERVICE, lambda: client.query("people", query), field="query", **metadata)

    wrong("QUERY_MALFORMED", '{"a": ', offset=6)
    wrong("QUERY_MALFORMED", "[]")
    wrong("QUERY_MALFORMED", json.dumps({"a": "x" * 70_000}))
    wrong("QUERY_OPERATOR_UNKNOWN", {"a": {"$near": 1}}, operator="$near")
    wrong("QUERY_OPERATOR_UNKNOWN", {"$where": "1"}, operator="$where")
    for operator, query in WRONG_OPERANDS.items():
        wrong("QUERY_OPERAND_INVALID", query, operator=operator)


def oversized(client):
    def of(size):
        return json.dumps({"a": "x" * (size - 9)})

    refused(
        INVALID, "DOCUMENT_TOO_LARGE", SERVICE, lambda: client.create("large", of(LARGEST + 1)), field="data", limit=LARGEST
    )
    for call in (
        lambda: client.create("large", of(LIMIT + (1 << 20))),
        lambda: client.update("large", "x", of(LIMIT + (1 << 20))),
        lambda: client.query("large", of(LIMIT + (1 << 20))),
    ):
        refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, call, limit=LIMIT)
    largest = client.create("large", of(LARGEST)).id
    assert client.read("large", largest).data == of(LARGEST)
    client.clear("large")
