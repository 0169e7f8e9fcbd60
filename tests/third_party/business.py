"""business.BusinessService: every method, and the errors of all three services that it passes on."""

import json
import uuid

import business_service_pb2 as messages
import business_service_pb2_grpc
import database
from checks import FAILED_PRECONDITION, INVALID, LIMIT, NOT_FOUND, TIMEOUT, refused, too_late

SERVICE, AI, DATABASE = "web-server", "ai-server", "database-server"
HUGE = "x" * (LIMIT + (1 << 20))


class Client:
    def __init__(self, channel, database_channel):
        self.stub = business_service_pb2_grpc.BusinessServiceStub(channel)
        self.database = database.Client(database_channel)
        self.model = f"business-{uuid.uuid4().hex[:8]}"
        self.collection = f"business-{uuid.uuid4().hex[:8]}"

    def request(self, text, **fields):
        fields = {"model_id": self.model, "collection": self.collection, **fields}
        return messages.ClassifyRequest(text=text, **fields)

    def learn(self, **fields):
        return self.stub.Learn(messages.LearnRequest(**fields), timeout=5 * TIMEOUT)


def checks(channel, database_channel, examples) -> dict:
    client = Client(channel, database_channel)

    # In this order: each uses what the ones before it learned or stored.
    def workflows():
        learn(client, examples)
        classify(client, examples)
        upload(client)
        ingest(client, examples)
        train_from_stored(client)
        watch(client)
        lists(client)
        client.database.clear(client.collection)

    return {
        "business: learn, classify, upload, ingest, train, watch, list": workflows,
        "business: invalid requests": lambda: invalid_requests(client),
        "business: invalid documents in a stream": lambda: invalid_documents(client),
        "business: a deadline": lambda: too_late(
            lambda: client.stub.WatchSummary(messages.SummaryRequest(interval_milliseconds=200), timeout=1)
        ),
    }


def learn(client, examples):
    given = messages.Examples(examples=[messages.Example(text=text, label=label) for text, label in examples])
    progress = list(client.learn(model_id=client.model, examples=given))
    assert all(not one.HasField("result") for one in progress[:-1]), progress
    result = progress[-1].result
    assert (result.model_id, result.examples) == (client.model, len(examples)), result
    assert 0.0 <= result.accuracy <= 1.0, result


def classify(client, examples):
    text, labels = examples[0][0], {label for _, label in examples}
    seen = client.stub.Classify(client.request(text, reference="r"), timeout=TIMEOUT)
    assert not seen.id and seen.label in labels and seen.reference == "r", seen
    stored = client.stub.ClassifyAndStore(client.request(text), timeout=TIMEOUT)
    assert stored.id and stored.collection == client.collection, stored
    document = json.loads(client.database.read(client.collection, stored.id).data)
    assert (document["text"], document["label"]) == (text, stored.label), document


def upload(client):
    documents = [
        messages.UploadRequest(collection=client.collection, data=data, reference=str(n))
        for n, data in enumerate(['{"n": 1}', "no json", '{"n": 2}', "[]"])
    ]
    result = client.stub.Upload(iter(documents), timeout=TIMEOUT)
    assert (result.stored, result.failed) == (2, 2), result
    failures = {one.reference: one.failure.code for one in result.failures}
    assert failures == dict.fromkeys("13", INVALID.value[0]), failures


def ingest(client, examples):
    texts = {str(n): text for n, (text, _) in enumerate(examples[:30])}
    requests = (client.request(text, reference=reference) for reference, text in texts.items())
    results = {one.reference: one.document for one in client.stub.Ingest(requests, timeout=TIMEOUT)}
    assert {reference: document.text for reference, document in results.items()} == texts
    assert all(document.id and document.label for document in results.values()), results


def train_from_stored(client):
    request = messages.TrainRequest(collection=client.collection, model_id=client.model + "-stored")
    trained = client.stub.TrainFromStored(request, timeout=5 * TIMEOUT)
    # One was classified and stored, thirty ingested.
    assert (trained.model_id, trained.examples) == (request.model_id, 31), trained
    progress = list(client.learn(model_id=request.model_id, collection=client.collection))
    assert progress[-1].result.examples == 31, progress[-1]


def watch(client):
    request = messages.SummaryRequest(collection=client.collection, model_id=client.model)
    one = list(client.stub.WatchSummary(request, timeout=TIMEOUT))
    assert len(one) == 1, one
    # The two backends by their hosts' names, and the service itself.
    backends = one[0].backends
    assert len(backends) == 3 and SERVICE in {backend.name for backend in backends}, one
    request.interval_milliseconds = 200
    live = client.stub.WatchSummary(request, timeout=TIMEOUT)
    # Figures that a backend does not report in time are left out, and come with a later summary.
    for summary in live:
        serving = all(backend.serving for backend in summary.backends)
        if serving and summary.documents == 33 and summary.predictions_made >= 32:
            break
    live.cancel()
    assert sum(summary.documents_by_label.values()) == 31, summary


def lists(client):
    listed = client.stub.ListCollections(messages.ListCollectionsRequest(), timeout=TIMEOUT).collections
    assert client.collection in listed and list(listed) == sorted(listed), listed


def invalid_requests(client):
    for method in (client.stub.Classify, client.stub.ClassifyAndStore):

        def of(text, **fields):
            return lambda: method(client.request(text, **fields), timeout=TIMEOUT)

        refused(NOT_FOUND, "MODEL_NOT_FOUND", AI, of("text", model_id="no-such-model"))
        refused(INVALID, "MODEL_ID_INVALID", AI, of("text", model_id="a b"))
        refused(INVALID, "TEXT_EMPTY", AI, of(""))
        refused(INVALID, "TEXT_TOO_LONG", AI, of("x" * (128 * 1024 + 1)))
        refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, of(HUGE), limit=LIMIT)
    example = messages.Examples(examples=[messages.Example(text="text", label="")])
    refused(INVALID, "LABEL_INVALID", AI, lambda: client.learn(model_id="x", examples=example))
    refused(INVALID, "NO_EXAMPLES", AI, lambda: client.learn(model_id="x", examples=messages.Examples()))
    refused(INVALID, "SOURCE_MISSING", SERVICE, lambda: client.learn(model_id="x"))
    refused(FAILED_PRECONDITION, "NO_EXAMPLES", SERVICE, lambda: client.learn(model_id="x", collection="empty"))
    refused(INVALID, "COLLECTION_NAME_INVALID", DATABASE, lambda: client.learn(model_id="x", collection="a b"))

    def train(collection):
        return lambda: client.stub.TrainFromStored(messages.TrainRequest(collection=collection), timeout=TIMEOUT)

    refused(FAILED_PRECONDITION, "NO_EXAMPLES", SERVICE, train("empty"))
    refused(INVALID, "COLLECTION_NAME_INVALID", DATABASE, train("a b"))


def invalid_documents(client):
    requests = [
        client.request("text", model_id="no-such-model", reference="model"),
        client.request(" ", reference="text"),
        client.request("text", model_id="a b", reference="id"),
    ]
    failed = {one.reference: one.failure.code for one in client.stub.Ingest(iter(requests), timeout=TIMEOUT)}
    expected = {"model": NOT_FOUND, "text": INVALID, "id": INVALID}
    assert failed == {reference: code.value[0] for reference, code in expected.items()}, failed
    upload = [messages.UploadRequest(collection="a b", data="{}", reference="name")]
    result = client.stub.Upload(iter(upload), timeout=TIMEOUT)
    assert [one.failure.code for one in result.failures] == [INVALID.value[0]], result
    huge = [client.request(HUGE)]
    refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, lambda: client.stub.Ingest(iter(huge), timeout=TIMEOUT), limit=LIMIT)
    huge = [messages.UploadRequest(collection="large", data=HUGE)]
    refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, lambda: client.stub.Upload(iter(huge), timeout=TIMEOUT), limit=LIMIT)
