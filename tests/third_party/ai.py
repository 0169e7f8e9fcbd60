"""ai.AiService: every method, and every error that a caller can cause."""

import threading
import uuid

import ai_service_pb2 as messages
import ai_service_pb2_grpc
import grpc
from checks import FAILED_PRECONDITION, INVALID, LIMIT, NOT_FOUND, TIMEOUT, refused, too_late

SERVICE = "ai-server"
NEWS = [("the striker scored a late goal", "sport"), ("parliament passed the budget bill", "politics")] * 20


class Client:
    def __init__(self, channel):
        self.stub = ai_service_pb2_grpc.AiServiceStub(channel)

    def train(self, model, examples, timeout=5 * TIMEOUT):
        data = (messages.TrainingData(input=text, expected_output=label) for text, label in examples)
        return self.stub.TrainModel(data, metadata=[("model-id", model)], timeout=timeout)

    def predict(self, model, text, timeout=TIMEOUT):
        return self.stub.Predict(messages.PredictRequest(input_data=text, model_id=model), timeout=timeout)

    def monitor(self, model, interval="100", timeout=TIMEOUT):
        request = messages.ModelIdentifier(model_id=model)
        return self.stub.MonitorModel(request, metadata=[("interval-ms", interval)], timeout=timeout)


def checks(channel, examples) -> dict:
    client = Client(channel)
    return {
        f"ai: {name}": lambda check=check: check(client)
        for name, check in {
            "train, predict, monitor": lambda client: train_predict_monitor(client, examples),
            "a cancelled training": a_cancelled_training,
            "a training that stalls": a_training_that_stalls,
            "unknown models": unknown_models,
            "an untrained model": an_untrained_model,
            "invalid texts, labels, models": invalid_arguments,
            "a deadline": a_deadline,
        }.items()
    }


def a_model() -> str:
    return f"third-party-{uuid.uuid4().hex[:8]}"


def train_predict_monitor(client, examples):
    model = a_model()
    status = client.train(model, examples)
    assert status.model_id == model and status.iterations == len(examples), status
    assert 0.0 <= status.accuracy <= 1.0, status
    again = client.train(model, examples[:10])
    assert again.iterations == len(examples) + 10, again
    text, label = examples[0]
    predicted = client.predict(model, text)
    assert predicted.prediction in {label for _, label in examples}, predicted
    assert 0.0 < predicted.confidence <= 1.0, predicted
    watch = client.monitor(model)
    first, second = next(watch), next(watch)
    watch.cancel()
    assert first.predictions_made >= 1 and first.average_confidence > 0.0, first
    assert second.timestamp > first.timestamp, (first, second)


def a_cancelled_training(client):
    model = a_model()
    client.train(model, NEWS)
    more, release = threading.Event(), threading.Event()

    def half():
        yield messages.TrainingData(input="the keeper saved it", expected_output="weather")
        more.set()
        release.wait(TIMEOUT)

    call = client.stub.TrainModel.future(half(), metadata=[("model-id", model)], timeout=TIMEOUT)
    assert more.wait(TIMEOUT)
    call.cancel()
    release.set()
    assert client.predict(model, "a late goal").prediction == "sport"
    assert client.train(model, NEWS[:2]).iterations == len(NEWS) + 2, "the cancelled training was learned"


def a_training_that_stalls(client):
    release = threading.Event()

    def stalling():
        yield messages.TrainingData(input="one", expected_output="a")
        release.wait(2 * TIMEOUT)

    try:
        refused(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "TRAINING_STALLED",
            SERVICE,
            lambda: client.stub.TrainModel(stalling(), metadata=[("model-id", a_model())], timeout=2 * TIMEOUT),
        )
    finally:
        release.set()


def a_deadline(client):
    model = a_model()
    client.train(model, NEWS)
    too_late(lambda: client.monitor(model, timeout=1))


def unknown_models(client):
    refused(NOT_FOUND, "MODEL_NOT_FOUND", SERVICE, lambda: client.predict("no-such-model", "text"))
    refused(NOT_FOUND, "MODEL_NOT_FOUND", SERVICE, lambda: client.monitor("no-such-model"))


def an_untrained_model(client):
    model, release = a_model(), threading.Event()

    def under_way():
        yield messages.TrainingData(input="one", expected_output="a")
        release.wait(TIMEOUT)

    call = client.stub.TrainModel.future(under_way(), metadata=[("model-id", model)], timeout=TIMEOUT)
    try:
        # The model does not exist until the training has begun.
        for _ in range(200):
            try:
                client.predict(model, "text")
            except grpc.RpcError as error:
                if error.code() == FAILED_PRECONDITION:
                    break
        refused(FAILED_PRECONDITION, "MODEL_UNTRAINED", SERVICE, lambda: client.predict(model, "text"))
    finally:
        release.set()
    assert call.result().iterations == 1


def invalid_arguments(client):
    def train(examples, model=None):
        return lambda: client.train(model or a_model(), examples)

    for text in ("", " \n"):
        refused(INVALID, "TEXT_EMPTY", SERVICE, lambda: client.predict("default", text), field="input_data")
        refused(INVALID, "TEXT_EMPTY", SERVICE, train([(text, "a")]), field="input")
    long = "x" * (128 * 1024 + 1)
    refused(INVALID, "TEXT_TOO_LONG", SERVICE, lambda: client.predict("default", long), field="input_data")
    refused(INVALID, "TEXT_TOO_LONG", SERVICE, train([(long, "a")]), field="input")
    huge = "x" * (LIMIT + (1 << 20))
    refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, lambda: client.predict("default", huge), limit=LIMIT)
    refused(INVALID, "MESSAGE_TOO_LARGE", SERVICE, train([("text", "a"), (huge, "a")]), limit=LIMIT)
    for label in ("", "x" * 129):
        refused(INVALID, "LABEL_INVALID", SERVICE, train([("text", label)]), field="expected_output")
    many = [(f"text {n}", f"label {n}") for n in range(65)]
    refused(INVALID, "TOO_MANY_LABELS", SERVICE, train(many), field="expected_output")
    refused(INVALID, "NO_EXAMPLES", SERVICE, train([]), field="input")
    for model in ("a b", "x" * 65):
        for call in (lambda: client.predict(model, "text"), train(NEWS, model), lambda: client.monitor(model)):
            refused(INVALID, "MODEL_ID_INVALID", SERVICE, call, field="model_id")
    for interval in ("99", "60001", "soon"):
        refused(INVALID, "INTERVAL_INVALID", SERVICE, lambda: client.monitor("default", interval), field="interval-ms")
