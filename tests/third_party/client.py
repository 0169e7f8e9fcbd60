"""A gRPC client that shares no code with the services: Python's grpcio, stubs generated from proto/.

Usage: client.py STUBS CREDENTIALS EXAMPLES DATABASE AI   (addresses as NAME=HOST:PORT)
Calls every method of both contracts against the running virtual machines and prints a line per check.
"""

import csv
import json
import pathlib
import sys
import traceback

import grpc

TIMEOUT = 60


def channel(credentials: pathlib.Path, target: str) -> grpc.Channel:
    name, address = target.split("=")
    tls = grpc.ssl_channel_credentials(
        root_certificates=(credentials / "ca.pem").read_bytes(),
        private_key=(credentials / "client.key").read_bytes(),
        certificate_chain=(credentials / "client.pem").read_bytes(),
    )
    return grpc.secure_channel(address, tls, [("grpc.ssl_target_name_override", name)])


def refused(code: grpc.StatusCode, call) -> None:
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"expected {code}, got {error.code()}: {error.details()}"
    else:
        raise AssertionError(f"expected {code}, and the call succeeded")


def create_read_update_delete(database, messages):
    created = database.Create(
        messages.CreateRequest(collection="third-party", data=json.dumps({"n": 1, "tag": "a"})), timeout=TIMEOUT
    )
    assert created.success and created.id
    read = messages.ReadRequest(collection="third-party", id=created.id)
    assert json.loads(database.Read(read, timeout=TIMEOUT).data) == {"n": 1, "tag": "a"}
    updated = database.Update(
        messages.UpdateRequest(collection="third-party", id=created.id, data=json.dumps({"n": 2})), timeout=TIMEOUT
    )
    assert updated.success
    assert json.loads(database.Read(read, timeout=TIMEOUT).data) == {"n": 2}
    assert database.Delete(
        messages.DeleteRequest(collection="third-party", id=created.id), timeout=TIMEOUT
    ).success
    refused(grpc.StatusCode.NOT_FOUND, lambda: database.Read(read, timeout=TIMEOUT))


def query_streams_what_matches(database, messages):
    ids = [
        database.Create(
            messages.CreateRequest(collection="queried", data=json.dumps({"n": n})), timeout=TIMEOUT
        ).id
        for n in range(5)
    ]
    query = messages.QueryRequest(collection="queried", query=json.dumps({"n": {"$gte": 3}}))
    found = {answer.id: json.loads(answer.data)["n"] for answer in database.Query(query, timeout=TIMEOUT)}
    assert found == {ids[3]: 3, ids[4]: 4}, found
    for document in ids:
        database.Delete(messages.DeleteRequest(collection="queried", id=document), timeout=TIMEOUT)


def bad_input_is_refused(database, messages):
    refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: database.Create(messages.CreateRequest(collection="third-party", data="{not json"), timeout=TIMEOUT),
    )


def train_predict_monitor(ai, messages, examples):
    model = ("model-id", "third-party")
    status = ai.TrainModel(
        (messages.TrainingData(input=text, expected_output=label) for text, label in examples),
        metadata=[model],
        timeout=5 * TIMEOUT,
    )
    assert status.model_id == "third-party" and status.iterations == len(examples), status
    text, label = examples[0]
    predicted = ai.Predict(messages.PredictRequest(input_data=text, model_id="third-party"), timeout=TIMEOUT)
    assert predicted.prediction in {label for _, label in examples}, predicted
    assert 0.0 < predicted.confidence <= 1.0, predicted
    watch = ai.MonitorModel(messages.ModelIdentifier(model_id="third-party"), timeout=TIMEOUT)
    metrics = next(watch)
    watch.cancel()
    assert metrics.predictions_made >= 1 and metrics.timestamp, metrics
    refused(
        grpc.StatusCode.NOT_FOUND,
        lambda: ai.Predict(messages.PredictRequest(input_data=text, model_id="no-such-model"), timeout=TIMEOUT),
    )


def strangers_are_refused(address: str):
    with grpc.insecure_channel(address) as plain:
        refused(
            grpc.StatusCode.UNAVAILABLE,
            lambda: plain.unary_unary("/database.DatabaseService/Read")(b"", timeout=TIMEOUT),
        )


def main() -> int:
    stubs, credentials, examples, database_target, ai_target = sys.argv[1:]
    sys.path.insert(0, stubs)
    import ai_service_pb2
    import ai_service_pb2_grpc
    import database_service_pb2
    import database_service_pb2_grpc

    with open(examples, newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)][:100]
    folder = pathlib.Path(credentials)
    database = database_service_pb2_grpc.DatabaseServiceStub(channel(folder, database_target))
    ai = ai_service_pb2_grpc.AiServiceStub(channel(folder, ai_target))
    checks = {
        "create, read, update, delete": lambda: create_read_update_delete(database, database_service_pb2),
        "query streams what matches": lambda: query_streams_what_matches(database, database_service_pb2),
        "bad input is refused": lambda: bad_input_is_refused(database, database_service_pb2),
        "train, predict, monitor": lambda: train_predict_monitor(ai, ai_service_pb2, rows),
        "strangers are refused": lambda: strangers_are_refused(database_target.split("=")[1]),
    }
    failed = 0
    for name, check in checks.items():
        try:
            check()
            print(f"ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
