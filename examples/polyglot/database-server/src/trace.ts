/** The W3C trace context of the current call, and who made it. */

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

export interface Call {
  /** The name of the service that handles it. */
  service: string;
  traceId: string;
  spanId: string;
  /** The caller's span; none at the beginning of a trace. */
  parentId?: string;
  /** The name on the caller's certificate. */
  caller?: string;
}

const calls = new AsyncLocalStorage<Call>();

/** Continues the trace of a `traceparent`, or begins one if it is missing or malformed. */
export function begin(
  service: string,
  traceparent: string | undefined,
  caller: string | undefined,
): Call {
  // Version 00 ends after its four parts; a later one may have more.
  const pattern =
    /^(?:00(?=.{53}$)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-|$)/;
  const [, traceId = randomBytes(16).toString('hex'), parentId] =
    pattern.exec(traceparent ?? '') ?? [];
  return { service, traceId, spanId: randomBytes(8).toString('hex'), parentId, caller };
}

/** Runs a function, and all that it starts, as part of a call. */
export function within<T>(call: Call, run: () => T): T {
  return calls.run(call, run);
}

export function current(): Call {
  return calls.getStore() ?? begin('unknown', undefined, undefined);
}
