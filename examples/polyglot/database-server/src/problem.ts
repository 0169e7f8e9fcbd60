/** Errors as callers get them: a `google.rpc.Status` with a reason that programs can rely on. */

import { Metadata, type StatusObject, status } from '@grpc/grpc-js';

import { log } from './log';
import { RPC } from './proto';
import { current } from './trace';

/** The domain of all reasons that the services use. */
const DOMAIN = 'pspd.internal';
/** The longest text, in UTF-16 units. A status is sent as metadata, of which clients accept 8 KiB at least. */
const LONGEST = 512;
/** What is left of the end of a longer text. */
const END = 128;

interface Details {
  /** The field of the request that is invalid. */
  field?: string;
  /** The resource that does not exist. */
  resource?: string;
  /** When to try again. */
  retrySeconds?: number;
  /** More for ErrorInfo's metadata. */
  metadata?: Record<string, string | number>;
}

export class Problem extends Error {
  constructor(
    readonly code: status,
    readonly reason: string,
    message: string,
    readonly details: Details = {},
  ) {
    super(shortened(message));
  }

  static invalid(field: string, reason: string, message: string, metadata = {}): Problem {
    return new Problem(status.INVALID_ARGUMENT, reason, message, { field, metadata });
  }

  /** What a call ends with; the trace id is that of the current call. */
  status(): StatusObject {
    const { code, message } = this;
    const metadata = new Metadata();
    const details = [this.info(), ...this.others()];
    metadata.set('grpc-status-details-bin', RPC.Status.serialize({ code, message, details }));
    return { code, details: message, metadata };
  }

  private info() {
    const { service, traceId } = current();
    const metadata: Record<string, string> = { service, trace_id: traceId };
    for (const [key, value] of Object.entries(this.details.metadata ?? {}))
      metadata[key] = shortened(String(value));
    return packed(
      'ErrorInfo',
      RPC.ErrorInfo.serialize({ reason: this.reason, domain: DOMAIN, metadata }),
    );
  }

  private *others() {
    const { field, resource, retrySeconds } = this.details;
    const description = this.message;
    if (field)
      yield packed(
        'BadRequest',
        RPC.BadRequest.serialize({ fieldViolations: [{ field, description }] }),
      );
    if (resource) {
      const info = { resourceType: 'document', resourceName: shortened(resource), description };
      yield packed('ResourceInfo', RPC.ResourceInfo.serialize(info));
    }
    if (retrySeconds) {
      yield packed('RetryInfo', RPC.RetryInfo.serialize({ retryDelay: { seconds: retrySeconds } }));
    }
  }
}

/** What a call ends with that threw `error`; what callers need not know is logged. */
export function statusOf(error: unknown): StatusObject {
  if (error instanceof Problem) return error.status();
  const { traceId, spanId } = current();
  const cause = error instanceof Error ? error.stack : String(error);
  log('error', 'the call failed', { trace_id: traceId, span_id: spanId, cause });
  return new Problem(status.INTERNAL, 'INTERNAL', 'the service failed').status();
}

function packed(name: string, value: Buffer) {
  return { type_url: `type.googleapis.com/google.rpc.${name}`, value };
}

/** A text without its middle, if it is too long. */
function shortened(text: string): string {
  if (text.length <= LONGEST) return text;
  return `${text.slice(0, LONGEST - END)}…${text.slice(-END)}`;
}
