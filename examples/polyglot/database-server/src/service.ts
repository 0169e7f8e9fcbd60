/** `database.DatabaseService`: checks requests and calls the store. */

import { type ServerWritableStream, type handleUnaryCall, status } from '@grpc/grpc-js';

import type { DatabaseServiceHandlers } from '../generated/proto/database/DatabaseService';
import type { QueryRequest__Output as QueryRequest } from '../generated/proto/database/QueryRequest';
import type { QueryResponse } from '../generated/proto/database/QueryResponse';
import { ADMINISTRATOR, MESSAGE_LIMIT } from './guard';
import { JsonFault, findNul, parseObject } from './json';
import { Problem, statusOf } from './problem';
import { parseQuery } from './query/query';
import { Scan } from './scan';
import type { Store } from './store';
import { current } from './trace';

/** Leaves room for a message's other fields. */
const DATA_LIMIT = MESSAGE_LIMIT - 1024;
/** How many results, in UTF-16 units, are written before the caller has to take them. */
const UNREAD_LIMIT = 128 * 1024;

export function databaseService(
  store: Store,
  owners: Map<string, string>,
): DatabaseServiceHandlers {
  return {
    Create: unary(async ({ collection, data }) => {
      checkCollection(collection, owners);
      checkData(data);
      return { id: await store.create(collection, data), success: true };
    }),
    Read: unary(async ({ collection, id }) => {
      checkCollection(collection, owners);
      const data = await store.read(collection, id);
      if (data === undefined) throw missing(collection, id);
      return { data };
    }),
    Update: unary(async ({ collection, id, data }) => {
      checkCollection(collection, owners);
      checkData(data);
      if (!(await store.update(collection, id, data))) throw missing(collection, id);
      return { success: true };
    }),
    Delete: unary(async ({ collection, id }) => {
      checkCollection(collection, owners);
      if (!(await store.delete(collection, id))) throw missing(collection, id);
      return { success: true };
    }),
    Query: async (call) => {
      const cancelled = new AbortController();
      call.once('cancelled', () => cancelled.abort());
      try {
        const { collection, query } = call.request;
        checkCollection(collection, owners);
        await send(
          call,
          new Scan(store, collection, parseQuery(query), cancelled.signal),
          cancelled.signal,
        );
        call.end();
      } catch (error) {
        if (!cancelled.signal.aborted) call.emit('error', statusOf(error));
      }
    },
  };
}

function unary<Request, Response>(
  answer: (request: Request) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, done) => {
    answer(call.request).then(
      (response) => done(null, response),
      (error: unknown) => done(statusOf(error)),
    );
  };
}

/** Sends results as fast as the caller reads them. */
async function send(
  call: ServerWritableStream<QueryRequest, QueryResponse>,
  scan: Scan,
  signal: AbortSignal,
): Promise<void> {
  let unread = 0;
  for await (const result of scan.results()) {
    signal.throwIfAborted();
    unread += result.id.length + result.data.length;
    if (unread < UNREAD_LIMIT) {
      call.write(result);
      continue;
    }
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', reject, { once: true });
      call.write(result, () => {
        signal.removeEventListener('abort', reject);
        resolve();
      });
    });
    unread = 0;
  }
}

/** Refuses a name that no collection has, and a collection that is another caller's own. */
function checkCollection(name: string, owners: Map<string, string>): void {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name)) {
    const message = `\`${name}\` is not a valid collection name: use 1 to 64 letters, digits, \`_\` and \`-\``;
    throw Problem.invalid('collection', 'COLLECTION_NAME_INVALID', message);
  }
  const owner = owners.get(name);
  const { caller } = current();
  if (owner === undefined || caller === undefined || caller === owner || caller === ADMINISTRATOR)
    return;
  const message = `the collection \`${name}\` belongs to \`${owner}\`; \`${caller}\` may not use it`;
  const metadata = { caller, collection: name };
  throw new Problem(status.PERMISSION_DENIED, 'RESOURCE_OWNED', message, { metadata });
}

/** Refuses data that is not one JSON object, or is too large. */
function checkData(data: string): void {
  const length = Buffer.byteLength(data);
  if (length > DATA_LIMIT) {
    const message = `the document has ${length} bytes, more than ${DATA_LIMIT}`;
    throw Problem.invalid('data', 'DOCUMENT_TOO_LARGE', message, { limit: DATA_LIMIT });
  }
  try {
    parseObject(data);
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    throw malformed(`the data is not a JSON object, ${error.message}`, error.offset);
  }
  const nul = findNul(data);
  if (nul !== undefined) throw malformed(`the document has U+0000, at byte ${nul}`, nul);
}

function malformed(message: string, offset: number): Problem {
  return Problem.invalid('data', 'DOCUMENT_MALFORMED', message, { offset });
}

function missing(collection: string, id: string): Problem {
  const message = `document \`${id}\` does not exist in collection \`${collection}\``;
  return new Problem(status.NOT_FOUND, 'DOCUMENT_NOT_FOUND', message, {
    resource: `${collection}/${id}`,
  });
}
