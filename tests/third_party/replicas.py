"""The AI service when several callers replace one model at a time, or one call takes too long."""

import concurrent.futures
import contextlib
import threading
import time

import ai_service_pb2
import business_service_pb2
import database_service_pb2_grpc
import grpc
from ai import NEWS, a_model
from checks import ABORTED, DEADLINE_EXCEEDED, TIMEOUT, refused

AI, WEB = "ai-server", "web-server"
CLAIMS = "ai-model-claims"
# A claim is valid for 45 s. A replica makes four calls meanwhile, each with a limit of 15 s.
SLOW = 11.5


def checks() -> dict:
    return {
        "a model that another replica replaces": a_model_that_changes,
        "a model that takes too long to store": a_model_that_is_slow_to_store,
        "a call that takes more than a minute": a_call_that_takes_too_long,
    }


@contextlib.contextmanager
def training(client, model):
    """A training that has begun to learn and continues until the yielded function ends it and returns its result."""
    begun, over = threading.Event(), threading.Event()

    def examples():
        # More than the service reads before it learns (4 MiB), plus what the buffers hold while it does not read.
        for _ in range(56):
            yield ai_service_pb2.TrainingData(input="goal " * 26_000, expected_output="sport")
        begun.set()
        while not over.wait(10):
            yield ai_service_pb2.TrainingData(input="goal", expected_output="sport")

    call = client.stub.TrainModel.future(examples(), metadata=[("model-id", model)], timeout=3 * TIMEOUT)

    def end():
        over.set()
        return call.result()

    try:
        assert begun.wait(TIMEOUT), call
        yield end
    finally:
        over.set()
        call.cancel()


def a_model_that_changes(services):
    database = services.database()
    here, there = (services.ai_client(services.ai(database.url)) for _ in range(2))
    model = a_model()
    with training(here, model) as end:
        there.train(model, NEWS)
        refused(ABORTED, "MODEL_CHANGED", AI, end, retry=True)
    # After a retry, nothing of either training is lost.
    assert here.train(model, NEWS).iterations == 2 * len(NEWS)


def a_call_that_takes_too_long(services):
    database = services.database()
    ai = services.ai(database.url)
    client = services.business_client(services.web(database.url, ai.url), database)
    client.database.create(client.collection, {"text": "a late goal", "label": "sport"})
    request = business_service_pb2.TrainRequest(collection=client.collection, model_id=client.model)
    with training(services.ai_client(ai), client.model) as end:
        # It waits for its turn with the model.
        refused(
            DEADLINE_EXCEEDED,
            "TOO_SLOW",
            WEB,
            lambda: client.stub.TrainFromStored(request, timeout=2 * TIMEOUT),
        )
        assert end().iterations > 56


class SlowOnceClaimed(database_service_pb2_grpc.DatabaseServiceServicer):
    """A database service in front of another, which is slow after a replica's claim."""

    def __init__(self, behind):
        self.behind = behind
        self.claimed = False

    def answer(self, call, request):
        if self.claimed:
            time.sleep(SLOW)
        return call(request, timeout=TIMEOUT)

    def Create(self, request, context):
        self.claimed |= request.collection == CLAIMS
        return self.answer(self.behind.Create, request)

    def Query(self, request, context):
        return self.answer(self.behind.Query, request)


def a_model_that_is_slow_to_store(services):
    behind = services.database_client(services.database()).stub
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = grpc.server(pool)
        database_service_pb2_grpc.add_DatabaseServiceServicer_to_server(SlowOnceClaimed(behind), slow)
        port = slow.add_insecure_port("127.0.0.1:0")
        slow.start()
        try:
            client = services.ai_client(services.ai(f"http://127.0.0.1:{port}"))
            refused(ABORTED, "MODEL_BUSY", AI, lambda: client.train(a_model(), NEWS), retry=True)
        finally:
            slow.stop(None)
