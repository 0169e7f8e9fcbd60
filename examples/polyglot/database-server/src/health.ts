/** `grpc.health.v1`: the health of each service by its name, and of the whole process by the empty name. */

import { type ServerWritableStream, status } from '@grpc/grpc-js';

import type { HealthHandlers } from '../generated/proto/grpc/health/v1/Health';
import type { HealthCheckRequest__Output as Request } from '../generated/proto/grpc/health/v1/HealthCheckRequest';
import type { HealthCheckResponse } from '../generated/proto/grpc/health/v1/HealthCheckResponse';

export class Health {
  private serving = true;
  private watchers = new Set<ServerWritableStream<Request, HealthCheckResponse>>();

  constructor(private names: string[]) {}

  handlers(): HealthHandlers {
    return {
      Check: (call, done) => {
        const { service } = call.request;
        if (this.names.includes(service)) done(null, this.response());
        else
          done({
            code: status.NOT_FOUND,
            details: `\`${service}\` is not a service of this process`,
          });
      },
      List: (_call, done) => {
        done(null, {
          statuses: Object.fromEntries(this.names.map((name) => [name, this.response()])),
        });
      },
      Watch: (call) => {
        this.watchers.add(call);
        call.on('close', () => this.watchers.delete(call));
        call.write(
          this.names.includes(call.request.service)
            ? this.response()
            : { status: 'SERVICE_UNKNOWN' },
        );
      },
    };
  }

  /** Reports NOT_SERVING. */
  stop(): void {
    this.serving = false;
    for (const watcher of this.watchers) {
      if (this.names.includes(watcher.request.service)) watcher.write(this.response());
    }
  }

  /** Ends the streams of watchers, which would keep their connections open. */
  end(): void {
    for (const watcher of this.watchers) watcher.end();
  }

  private response(): HealthCheckResponse {
    return { status: this.serving ? 'SERVING' : 'NOT_SERVING' };
  }
}
