/** The reason for a failed call, as the services describe it, and the trace id for their logs. */
import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../stubs/google/rpc/error_details_pb';

/** The metadata in which the calls' interceptor puts the trace id, for errors that no service described. */
export const TRACE_HEADER = 'trace-id';

export class Problem extends Error {
  constructor(
    readonly code: Code,
    readonly detail: string,
    readonly service: string,
    readonly traceId: string,
    /** Whether a service described the failure; otherwise there was no response. */
    readonly described: boolean,
  ) {
    super(detail);
  }

  /** Whether the same call may succeed later without any change by the user. */
  get transient(): boolean {
    return (
      !this.described ||
      this.code === Code.Unavailable ||
      this.code === Code.DeadlineExceeded ||
      this.code === Code.ResourceExhausted
    );
  }

  static of(error: unknown): Problem {
    if (error instanceof Problem) return error;
    const failure = ConnectError.from(error);
    const info = failure.findDetails(ErrorInfoSchema)[0];
    return new Problem(
      failure.code,
      failure.rawMessage,
      info?.metadata['dependency'] ?? info?.metadata['service'] ?? '',
      info?.metadata['trace_id'] ?? failure.metadata.get(TRACE_HEADER) ?? '',
      info !== undefined,
    );
  }
}
