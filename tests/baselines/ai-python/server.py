"""ai.AiService in Python: grpcio and scikit-learn, models in memory.

Usage: server.py STUBS PORT
"""

import collections
import datetime
import sys
import threading
from concurrent import futures

import grpc

sys.path.insert(0, sys.argv[1])
import ai_service_pb2 as messages
import ai_service_pb2_grpc as services

from classifier import Classifier

WORKERS = 16


class Ai(services.AiServiceServicer):
    def __init__(self):
        self.models = {}
        self.examples = collections.defaultdict(lambda: ([], []))
        self.usage = collections.defaultdict(lambda: [0, 0.0])
        self.lock = threading.Lock()

    def model(self, model_id, context):
        model = self.models.get(model_id or "default")
        if model is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model `{model_id}`")
        return model

    def Predict(self, request, context):
        if not request.input_data.strip():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the text is empty")
        model = self.model(request.model_id, context)
        label, confidence = model.predict_one(request.input_data)
        with self.lock:
            usage = self.usage[request.model_id or "default"]
            usage[0] += 1
            usage[1] += confidence
        return messages.PredictResponse(prediction=label, confidence=confidence)

    def TrainModel(self, examples, context):
        model_id = dict(context.invocation_metadata()).get("model-id", "default")
        texts, labels = self.examples[model_id]
        for example in examples:
            texts.append(example.input)
            labels.append(example.expected_output)
        # A tenth is held out for the accuracy; then all are learned.
        held_out = slice(0, None, 10)
        kept = [index for index in range(len(texts)) if index % 10]
        trial = Classifier([texts[index] for index in kept], [labels[index] for index in kept])
        right = sum(said == was for said, was in zip(trial.predict(texts[held_out]), labels[held_out]))
        self.models[model_id] = Classifier(texts, labels)
        return messages.TrainingStatus(
            model_id=model_id, accuracy=right / len(texts[held_out]), iterations=len(texts)
        )

    def MonitorModel(self, request, context):
        self.model(request.model_id, context)
        while context.is_active():
            count, confidence = self.usage[request.model_id or "default"]
            yield messages.ModelMetrics(
                predictions_made=count,
                average_confidence=confidence / count if count else 0.0,
                timestamp=datetime.datetime.now(datetime.UTC).isoformat(),
            )
            threading.Event().wait(1.0)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS))
    services.add_AiServiceServicer_to_server(Ai(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
