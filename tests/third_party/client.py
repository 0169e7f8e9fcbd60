"""A gRPC client that shares no code with the services: Python's grpcio, stubs generated from proto/.

Usage: client.py STUBS EXAMPLES CREDENTIALS NAME=HOST:PORT...
Calls every method of the named services' contracts, and causes every error that a caller can cause; prints a line per
check. CREDENTIALS is the folder that `pspd credentials` wrote, or `-` for servers without TLS.
"""

import csv
import pathlib
import sys

import grpc

import checks


def channel(credentials: str, name: str, address: str) -> grpc.Channel:
    # The services have to refuse oversized messages, not this client.
    options = [("grpc.max_send_message_length", -1)]
    if credentials == "-":
        return grpc.insecure_channel(address, options)
    folder = pathlib.Path(credentials)
    tls = grpc.ssl_channel_credentials(
        root_certificates=(folder / "ca.pem").read_bytes(),
        private_key=(folder / "client.key").read_bytes(),
        certificate_chain=(folder / "client.pem").read_bytes(),
    )
    return grpc.secure_channel(address, tls, [*options, ("grpc.ssl_target_name_override", name)])


def plaintext_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as plain:
        call = plain.unary_unary("/database.DatabaseService/Read")
        error = checks.failure(lambda: call(b"", timeout=checks.TIMEOUT))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error.code()


def main() -> int:
    stubs, examples, credentials, *targets = sys.argv[1:]
    sys.path.insert(0, stubs)
    import ai
    import business
    import database

    with open(examples, newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)][:100]
    addresses = dict(target.split("=") for target in targets)
    channels = {name: channel(credentials, name, address) for name, address in addresses.items()}
    wanted = {}
    if "database-server" in channels:
        wanted |= database.checks(channels["database-server"])
    if "ai-server" in channels:
        wanted |= ai.checks(channels["ai-server"], rows)
    if "web-server" in channels:
        wanted |= business.checks(channels["web-server"], channels["database-server"], rows)
    if credentials != "-":
        for name, address in addresses.items():
            wanted[f"{name}: callers without TLS are refused"] = lambda address=address: plaintext_is_refused(address)
    return checks.run(wanted)


if __name__ == "__main__":
    sys.exit(main())
