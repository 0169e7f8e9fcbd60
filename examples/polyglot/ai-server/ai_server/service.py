"""`ai.AiService`: trains, predicts, reports."""

import asyncio
import contextlib

import ai_service_pb2 as messages
import ai_service_pb2_grpc
import grpc

from ai_server import log, request
from ai_server.problem import Problem, invalid
from ai_server.registry import Registry
from ai_server.sample import Sample

# The longest pause of a training's stream, in seconds.
LONGEST_PAUSE = 30
# Of the protocol's numbers.
INT32 = (1 << 31) - 1


class Ai(ai_service_pb2_grpc.AiServiceServicer):
    def __init__(self, registry: Registry, stopping: asyncio.Event):
        self.registry = registry
        self.stopping = stopping

    async def Predict(self, predict, context):
        name = request.model(predict.model_id)
        request.check_text("input_data", predict.input_data)
        entry = await self.registry.open(name)
        label, confidence = await asyncio.to_thread(entry.model.predict, predict.input_data)
        entry.count(confidence)
        return messages.PredictResponse(prediction=label, confidence=confidence)

    async def TrainModel(self, examples, context):
        name = request.model(metadata(context).get("model-id", ""))
        with self.registry.training(name):
            sample = await read(examples)
            learned, accuracy = await self.registry.train(name, sample)
        return messages.TrainingStatus(model_id=name, accuracy=accuracy, iterations=min(learned, INT32))

    async def MonitorModel(self, identifier, context):
        interval = request.interval(metadata(context))
        entry = await self.registry.open(request.model(identifier.model_id))
        while not self.stopping.is_set():
            entry.use()
            yield messages.ModelMetrics(
                current_accuracy=entry.accuracy,
                predictions_made=min(entry.predictions, INT32),
                average_confidence=entry.average_confidence(),
                timestamp=log.now(),
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self.stopping.wait()


async def read(examples) -> Sample:
    """Reads a whole training stream."""
    sample = Sample()
    while (example := await following(examples)) is not None:
        request.check_text("input", example.input)
        request.check_label(example.expected_output)
        sample.add(example.input, example.expected_output)
        request.check_labels(sample.labels)
    if not sample.learned:
        raise invalid("input", "NO_EXAMPLES", "the training stream has no examples")
    return sample


async def following(examples):
    """The next example; None at the end of the stream."""
    try:
        async with asyncio.timeout(LONGEST_PAUSE):
            return await anext(examples, None)
    except TimeoutError:
        message = f"received no example for {LONGEST_PAUSE} s"
        raise Problem(grpc.StatusCode.DEADLINE_EXCEEDED, "TRAINING_STALLED", message) from None


def metadata(context) -> dict:
    return dict(context.invocation_metadata())
