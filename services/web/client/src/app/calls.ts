/**
 * The web server's gRPC services, over gRPC-Web.
 * Every call has its own trace, and its errors have the trace's id. Nothing is retried here: callers know what is safe.
 */
import { Injectable, inject } from '@angular/core';
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { BusinessService } from '../stubs/business_service_pb';
import { DatabaseService } from '../stubs/database_service_pb';
import { TRACE_HEADER } from './problem';
import { Session } from './session';

const DEADLINE = 30_000;
/** For calls with a stream of responses that does not end. */
export const NO_DEADLINE = 0;

@Injectable({ providedIn: 'root' })
export class Calls {
  private readonly session = inject(Session);

  private readonly traced: Interceptor = (next) => async (request) => {
    const trace = hex(16);
    request.header.set('traceparent', `00-${trace}-${hex(8)}-01`);
    const annotate = (error: unknown): ConnectError => {
      const failure = ConnectError.from(error);
      failure.metadata.set(TRACE_HEADER, trace);
      if (failure.code === Code.Unauthenticated) this.session.lost();
      return failure;
    };
    try {
      const response = await next(request);
      return response.stream
        ? { ...response, message: annotated(response.message, annotate) }
        : response;
    } catch (error) {
      throw annotate(error);
    }
  };

  private readonly transport = createGrpcWebTransport({
    baseUrl: location.origin,
    defaultTimeoutMs: DEADLINE,
    interceptors: [this.traced],
  });

  readonly business = createClient(BusinessService, this.transport);
  readonly documents = createClient(DatabaseService, this.transport);
}

async function* annotated<T>(
  messages: AsyncIterable<T>,
  annotate: (error: unknown) => ConnectError,
): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw annotate(error);
  }
}

function hex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
