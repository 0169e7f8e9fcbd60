"""The same client against services in trouble: it starts them, and stops, fills and damages what they depend on.

Usage: faults.py STUBS BINARIES [WORD...]
Causes every error that depends on a service's state or on the caller, with the services from the folder BINARIES on
loopback; prints a line per check. Words select checks by name.
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
