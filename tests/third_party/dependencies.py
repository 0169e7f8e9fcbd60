"""Services while a service that they depend on is stopped or hangs."""

import functools
import signal
import time

import business_service_pb2 as messages
from ai import NEWS, a_model
from checks import DEADLINE_EXCEEDED, TIMEOUT, UNAVAILABLE, at_once, refused

AI, WEB = "ai-server", "web-server"
# An address, and `localhost`, are not names of services: errors have these.
DATABASE = "database-server"


def checks() -> dict:
    return {
        "a stopped database": a_stopped_database,
        "a database that hangs": a_database_that_hangs,
        "a stopped AI service": a_stopped_ai_service,
    }


class Three:
    """The database, the AI service with a trained model, and the web server."""

    def __init__(self, services):
        self.database = services.database()
        self.ai_server = services.ai(self.database.url)
        web = services.web(self.database.url, f"http://localhost:{self.ai_server.port}")
        self.ai = services.ai_client(self.ai_server)
        self.business = services.business_client(web, self.database)
        self.model = self.business.model
        self.ai.train(self.model, NEWS)

    def classify(self, model):
        return self.business.stub.Classify(self.business.request("a late goal", model_id=model), timeout=TIMEOUT)

    def store(self):
        return self.business.stub.ClassifyAndStore(self.business.request("a late goal"), timeout=TIMEOUT)

    def upload(self):
        document = messages.UploadRequest(collection=self.business.collection, data="{}")
        return self.business.stub.Upload(iter([document]), timeout=TIMEOUT)

    def ingest(self):
        request = self.business.request("a late goal")
        [result] = self.business.stub.Ingest(iter([request]), timeout=TIMEOUT)
        return result

    def without_database(self):
        """Calls that need the database, each with the service that reports the error."""
        collection = self.business.collection
        train = messages.TrainRequest(collection=collection, model_id=self.model)
        return [
            (AI, lambda: self.ai.predict(a_model(), "text")),
            (AI, lambda: self.ai.monitor(a_model())),
            (AI, lambda: self.ai.train(a_model(), NEWS)),
            (AI, lambda: self.ai.train(self.model, NEWS, timeout=TIMEOUT)),
            (WEB, self.store),
            (WEB, lambda: self.business.stub.TrainFromStored(train, timeout=TIMEOUT)),
            (WEB, lambda: self.business.learn(model_id=self.model, collection=collection)),
            (WEB, lambda: self.business.stub.ListCollections(messages.ListCollectionsRequest(), timeout=TIMEOUT)),
        ]


def all_refused(code, reason, dependency, calls):
    expected = functools.partial(refused, code, reason, retry=True, dependency=dependency)
    at_once([functools.partial(expected, service, call) for service, call in calls])


def a_stopped_database(services):
    three = Three(services)
    three.database.end(signal.SIGKILL)
    calls = [*three.without_database(), (AI, lambda: three.classify(a_model()))]
    all_refused(UNAVAILABLE, "DEPENDENCY_UNREACHABLE", DATABASE, calls)
    uploaded = three.upload()
    assert [one.failure.code for one in uploaded.failures] == [UNAVAILABLE.value[0]], uploaded
    assert three.ingest().failure.code == UNAVAILABLE.value[0]
    # From memory.
    assert three.classify(three.model).label == "sport"


def a_database_that_hangs(services):
    three = Three(services)
    three.database.send(signal.SIGSTOP)
    # From memory, while the service keeps looking for a newer version; a training waits for one lookup at most.
    for _ in range(10):
        assert three.classify(three.model).label == "sport"
        time.sleep(1)
    all_refused(DEADLINE_EXCEEDED, "DEPENDENCY_TOO_SLOW", DATABASE, three.without_database())
    three.database.send(signal.SIGCONT)
    assert three.store().id


def a_stopped_ai_service(services):
    three = Three(services)
    three.ai_server.end(signal.SIGKILL)
    example = messages.Examples(examples=[messages.Example(text="text", label="label")])
    calls = [
        (WEB, lambda: three.classify(three.model)),
        (WEB, three.store),
        (WEB, lambda: three.business.learn(model_id=three.model, examples=example)),
    ]
    all_refused(UNAVAILABLE, "DEPENDENCY_UNREACHABLE", AI, calls)
    assert three.ingest().failure.code == UNAVAILABLE.value[0]
    assert three.upload().stored == 1
