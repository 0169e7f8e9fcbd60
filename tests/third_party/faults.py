"""The same client against services in trouble: it starts them itself, and stops, fills and damages what is under them.

Usage: faults.py STUBS BINARIES [WORD...]
Brings about every error that comes of a service's state or of who calls, by the services in the folder BINARIES on
loopback; a line per check. Words choose checks by name.
"""

import sys

import checks


def main() -> int:
    stubs, binaries, *words = sys.argv[1:]
    sys.path.insert(0, stubs)
    import callers
    import dependencies
    import postgres
    import replicas
    import stores
    from services import Services

    def alone(check):
        with Services(binaries) as services:
            check(services)

    wanted = {
        name: lambda check=check: alone(check)
        for module in (replicas, postgres, dependencies, stores, callers)
        for name, check in module.checks().items()
        if not words or any(word in name for word in words)
    }
    # They wait most of the time.
    return checks.run(wanted, side_by_side=len(wanted))


if __name__ == "__main__":
    sys.exit(main())
