/**
 * The JSON API of the web server: its shapes, its calls and its errors.
 * Keeps no state and never retries: callers know whether a retry is safe.
 */
import { Injectable } from '@angular/core';

export interface Backend {
  readonly name: string;
  readonly serving: boolean;
  readonly detail?: string;
}

export interface Status {
  readonly backends: readonly Backend[];
  readonly timestamp: string;
}

export interface Summary extends Status {
  readonly documents: number;
  readonly documents_by_label: Readonly<Record<string, number>>;
  readonly model_accuracy: number;
  readonly predictions_made: number;
  readonly average_confidence: number;
}

export interface StoredDocument {
  readonly id: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Classification {
  readonly label: string;
  readonly confidence: number;
  readonly model_id: string;
  readonly id?: string;
}

export interface Training {
  readonly model_id: string;
  readonly accuracy: number;
  readonly examples: number;
}

/** A failed call, as RFC 9457 describes it; `status` 0 means that no answer came. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly traceId: string,
    readonly service: string,
  ) {
    super(title);
  }

  /** Whether the same call may succeed later without the user changing anything. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  static of(error: unknown): Problem {
    if (error instanceof Problem) return error;
    if (error instanceof Error && error.cause instanceof Problem) return error.cause;
    return new Problem(0, '', error instanceof Error ? error.message : String(error), '', '');
  }

  static async from(response: Response): Promise<Problem> {
    const body: unknown = await response.json().catch(() => null);
    const field = (name: string): string => {
      const value = body && typeof body === 'object' ? Reflect.get(body, name) : undefined;
      return typeof value === 'string' ? value : '';
    };
    const title = field('title') || `HTTP ${response.status} ${response.statusText}`.trim();
    return new Problem(
      response.status,
      title,
      field('detail'),
      field('trace_id'),
      field('service'),
    );
  }
}

const SECOND = 1000;
const CALL_DEADLINE = 30 * SECOND;
const TRAIN_DEADLINE = 600 * SECOND;

interface Call {
  /** An object is sent as JSON, a string as CSV. */
  readonly body?: object | string;
  readonly signal?: AbortSignal | undefined;
  readonly deadline?: number;
}

@Injectable({ providedIn: 'root' })
export class Api {
  status(signal?: AbortSignal): Promise<Status> {
    return this.json('GET', '/status', { signal });
  }

  /** Opens the summary stream; the caller reads the body and aborts it. */
  summary(collection: string, model: string, signal: AbortSignal): Promise<Response> {
    const query = new URLSearchParams({ collection, model_id: model, interval_ms: '2000' });
    return send(`/summary?${query}`, { headers: { accept: 'text/event-stream' }, signal });
  }

  async list(
    collection: string,
    filter: string,
    limit: number,
    skip: number,
    signal: AbortSignal,
  ): Promise<readonly StoredDocument[]> {
    const query = new URLSearchParams({ limit: String(limit), skip: String(skip) });
    if (filter) query.set('query', filter);
    const path = `${documents(collection)}?${query}`;
    const page = await this.json<{ documents: readonly StoredDocument[] }>('GET', path, { signal });
    return page.documents;
  }

  read(collection: string, id: string): Promise<StoredDocument> {
    return this.json('GET', documents(collection, id));
  }

  create(collection: string, data: object): Promise<{ id: string }> {
    return this.json('POST', documents(collection), { body: data });
  }

  replace(collection: string, id: string, data: object): Promise<void> {
    return this.json('PUT', documents(collection, id), { body: data });
  }

  remove(collection: string, id: string): Promise<void> {
    return this.json('DELETE', documents(collection, id));
  }

  classify(text: string, model: string, collection: string): Promise<Classification> {
    const body = { text, model_id: model, collection, store: true };
    return this.json('POST', '/classify', { body });
  }

  train(model: string, csv: string): Promise<Training> {
    const path = `/models/${encodeURIComponent(model)}/train`;
    return this.json('POST', path, { body: csv, deadline: TRAIN_DEADLINE });
  }

  trainFrom(model: string, collection: string): Promise<Training> {
    const path = `/models/${encodeURIComponent(model)}/train-from/${encodeURIComponent(collection)}`;
    return this.json('POST', path, { deadline: TRAIN_DEADLINE });
  }

  private async json<T>(method: string, path: string, call: Call = {}): Promise<T> {
    const deadline = AbortSignal.timeout(call.deadline ?? CALL_DEADLINE);
    const signal = call.signal ? AbortSignal.any([deadline, call.signal]) : deadline;
    const headers: Record<string, string> = { accept: 'application/json' };
    const init: RequestInit = { method, headers, signal };
    if (call.body) {
      headers['content-type'] = typeof call.body === 'string' ? 'text/csv' : 'application/json';
      init.body = typeof call.body === 'string' ? call.body : JSON.stringify(call.body);
    }
    const response = await send(path, init);
    return (response.status === 204 ? undefined : await response.json()) as T;
  }
}

function documents(collection: string, id?: string): string {
  const path = `/collections/${encodeURIComponent(collection)}/documents`;
  return id === undefined ? path : `${path}/${encodeURIComponent(id)}`;
}

async function send(path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(`/api/v1${path}`, init);
  if (!response.ok) throw await Problem.from(response);
  return response;
}
