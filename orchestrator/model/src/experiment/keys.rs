//! The table of all keys of an experiment, used by the validation and the schema.

use crate::topology::keys::{Kind, Object, optional, required};

pub(super) static EXPERIMENT: Object = Object {
    title: "an experiment",
    keys: &[
        required(
            "name",
            Kind::Text {
                example: "power-cut",
            },
            "Lowercase letters, digits and `-`. The files of the report have this name.",
        ),
        optional(
            "about",
            Kind::Text {
                example: "A power cut loses no acknowledged write.",
            },
            "What the experiment shows, for the report.",
        ),
        optional(
            "snapshot",
            Kind::Text { example: "clean" },
            "The snapshot that each run starts from. The previous state is discarded. Default: the current state.",
        ),
        required(
            "load",
            Kind::Object(&LOAD),
            "The calls that are sent in all phases.",
        ),
        required(
            "phases",
            Kind::List(&Kind::Object(&PHASE)),
            "What happens, one phase after the other.",
        ),
        optional(
            "recovery",
            Kind::Duration,
            "After each fault, all services are SERVING and calls succeed again within this time, counted from when its heal begins.",
        ),
    ],
};

pub(super) static LOAD: Object = Object {
    title: "a load",
    keys: &[
        required(
            "target",
            Kind::Text {
                example: "database-server",
            },
            "The domain whose service is called.",
        ),
        optional(
            "documents",
            Kind::Number {
                least: 1,
                most: 10_000,
            },
            "Read, update and create documents of a `database.DatabaseService`, this many of them shared by all calls. All calls are recorded and checked afterwards.",
        ),
        optional(
            "call",
            Kind::Text { example: "Read" },
            "Call this gRPC method: `Method`, or `package.Service/Method`.",
        ),
        optional(
            "http",
            Kind::Text {
                example: "/api/v1/collections",
            },
            "Request this path of the port that the domain publishes: GET, or POST with `data`.",
        ),
        optional(
            "data",
            Kind::Text {
                example: "reads.jsonl",
            },
            "A file of JSON lines with the payloads of `call` or `http`, as for `pspd bench load`.",
        ),
        optional(
            "rate",
            Kind::Text { example: "50/s" },
            "Send calls at this rate, without waiting for responses. Default: 20/s.",
        ),
        optional(
            "users",
            Kind::Number {
                least: 1,
                most: 20_000,
            },
            "Instead of a rate, let this many users call, each of them when its last call is answered.",
        ),
        optional(
            "time_limit",
            Kind::Duration,
            "The time after which a call counts as not answered. Default: 10s.",
        ),
    ],
};

pub(super) static PHASE: Object = Object {
    title: "a phase",
    keys: &[
        required(
            "name",
            Kind::Text { example: "before" },
            "One line of text.",
        ),
        required(
            "for",
            Kind::Duration,
            "How long it lasts; longer if its steps take longer.",
        ),
        optional(
            "steps",
            Kind::List(&Kind::Object(&STEP)),
            "What is done, one after the other.",
        ),
        optional(
            "errors",
            Kind::Text { example: "1%" },
            "The share of failed calls at most.",
        ),
        optional(
            "p99",
            Kind::Text { example: "500ms" },
            "The 99th percentile of latency at most, of calls that succeeded or got no answer in time.",
        ),
    ],
};

pub(super) static STEP: Object = Object {
    title: "a step",
    keys: &[
        optional(
            "at",
            Kind::Text { example: "5s" },
            "When it is due, from the start of the phase. Default: 0s.",
        ),
        optional(
            "fault",
            Kind::Text {
                example: "kill database-server",
            },
            "Inject a fault, in the words of `pspd fault`.",
        ),
        optional(
            "for",
            Kind::Duration,
            "How long the fault stays. Default: until a `heal`, or the end of the experiment.",
        ),
        optional(
            "heal",
            Kind::Word(&["all"]),
            "End the faults of this experiment.",
        ),
        optional(
            "power",
            Kind::Text {
                example: "stop web-server --force",
            },
            "`start`, `stop`, `restart`, `pause`, `resume`, `save` or `restore` domains, in the words of these commands.",
        ),
        optional(
            "up",
            Kind::Text {
                example: "next.yaml",
            },
            "Update the deployment to this topology, as `pspd up` does.",
        ),
    ],
};
