/** What all calls have in common: a trace, a check of the caller, the limit of a message, and a line in the log. */

import { EventEmitter, once } from 'node:events';

import {
  ResponderBuilder,
  type ServerInterceptingCallInterface,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';

import { log } from './log';
import { Problem } from './problem';
import type { Settings } from './settings';
import { type Call, begin, within } from './trace';

/** The largest message, in bytes. */
export const MESSAGE_LIMIT = 4 << 20;
/** The name on the certificates of pspd itself and of `pspd credentials`. */
export const ADMINISTRATOR = 'pspd';

export class Guard {
  /** Set when the service is asked to stop. */
  draining = false;
  private open = 0;
  private ended = new EventEmitter();

  constructor(private settings: Settings) {}

  /** Waits until no call is open. */
  async idle(): Promise<void> {
    while (this.open > 0) await once(this.ended, 'call');
  }

  readonly intercept: ServerInterceptor = ({ path }, inner) => {
    const started = performance.now();
    this.open += 1;
    let call: Call;
    let ended: status | undefined;
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        call = begin(
          this.settings.name,
          metadata.get('traceparent')[0]?.toString(),
          callerOf(inner),
        );
        within(call, () => {
          const refusal = this.refusal(path, call.caller);
          if (refusal) outer.sendStatus(refusal.status());
          else next(metadata);
        });
      })
      .withOnReceiveMessage((message, next) => {
        within(call, () => {
          if (message instanceof Problem) outer.sendStatus(message.status());
          else next(message);
        });
      })
      .withOnReceiveHalfClose((next) => within(call, next))
      // Of every call, also of one that is complete.
      .withOnCancel(() => {
        logCall(path, call, started, ended ?? interrupted(inner));
        this.open -= 1;
        this.ended.emit('call');
      })
      .build();
    const responder = new ResponderBuilder()
      .withStart((next) => next(listener))
      .withSendStatus((sent, next) => {
        ended ??= sent.code;
        next(sent);
      })
      .build();
    const outer = new ServerInterceptingCall(inner, responder);
    return outer;
  };

  private refusal(path: string, caller: string | undefined): Problem | undefined {
    const { name, identity, callers } = this.settings;
    // Without TLS there are no names. Health is for everyone.
    if (identity && !path.startsWith('/grpc.health.v1.Health/')) {
      const known = caller !== undefined && (caller === ADMINISTRATOR || callers.has(caller));
      if (!known) {
        const unknown = caller ?? 'unnamed';
        const message = `\`${unknown}\` may not call \`${name}\``;
        return new Problem(status.PERMISSION_DENIED, 'CALLER_NOT_ALLOWED', message, {
          metadata: { caller: unknown },
        });
      }
    }
    if (this.draining && !path.startsWith('/grpc.')) {
      const message = 'the service is stopping: retry in a moment';
      return new Problem(status.UNAVAILABLE, 'DRAINING', message, { retrySeconds: 1 });
    }
    return undefined;
  }
}

/** Reads requests so that one which is too large or malformed becomes the problem that its caller gets. */
export function limited<S extends ServiceDefinition>(service: S): S {
  const methods = Object.entries(service as ServiceDefinition).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer) => {
      if (bytes.length > MESSAGE_LIMIT) {
        const message = `the message has ${bytes.length} bytes, more than ${MESSAGE_LIMIT}`;
        const metadata = { limit: MESSAGE_LIMIT };
        return new Problem(status.INVALID_ARGUMENT, 'MESSAGE_TOO_LARGE', message, { metadata });
      }
      try {
        return method.requestDeserialize(bytes);
      } catch (error) {
        const message = `the message is not valid: ${(error as Error).message}`;
        return new Problem(status.INVALID_ARGUMENT, 'MESSAGE_MALFORMED', message);
      }
    };
    return [name, { ...method, requestDeserialize }];
  });
  return Object.fromEntries(methods) as unknown as S;
}

/** The name on the caller's certificate: its DNS name that is a single label. */
function callerOf(call: ServerInterceptingCallInterface): string | undefined {
  const names = call.getAuthContext().sslPeerCertificate?.subjectaltname?.split(', ') ?? [];
  const labels = names
    .filter((name) => name.startsWith('DNS:'))
    .map((name) => name.slice('DNS:'.length));
  return labels.find((label) => !label.includes('.') && label !== 'localhost');
}

/** How a call ended that the service did not end. */
function interrupted(call: ServerInterceptingCallInterface): status {
  return Number(call.getDeadline()) <= Date.now() ? status.DEADLINE_EXCEEDED : status.CANCELLED;
}

function logCall(path: string, call: Call, started: number, code: status): void {
  // Probes would fill the log.
  const level = path.startsWith('/grpc.') && code === status.OK ? 'debug' : 'info';
  log(level, 'rpc', {
    service: call.service,
    method: path.slice(1),
    status: camelCase(status[code]),
    milliseconds: Math.round((performance.now() - started) * 1000) / 1000,
    caller: call.caller,
    trace_id: call.traceId,
    span_id: call.spanId,
    parent_id: call.parentId,
  });
}

/** `NotFound` of `NOT_FOUND`, as the other services write it; only `OK` is `Ok`. */
function camelCase(name: string): string {
  return name.toLowerCase().replace(/(?:^|_)(.)/g, (_, letter: string) => letter.toUpperCase());
}
