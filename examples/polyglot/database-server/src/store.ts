/** Documents in a file, by Prisma over SQLite. A change is answered when it is on stable storage. */

import { existsSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

import { status } from '@grpc/grpc-js';
import { PrismaLibSQL } from '@prisma/adapter-libsql';
import { Debug } from '@prisma/client/runtime/client';
import { clearLogs } from '@prisma/debug';

import { type Document, Prisma, PrismaClient } from '../generated/prisma/client';
import { Ids } from './ids';
import { log } from './log';
import { Problem } from './problem';

const { join, sql } = Prisma;

export interface Stored {
  id: string;
  data: string;
}

interface Insertion {
  documents: Document[];
  size: number;
  done: Promise<void>;
}

/** How much is written together, in UTF-16 units; a larger document is written alone. */
const INSERTION_SIZE = 1024 * 1024;
const INSERTION_LENGTH = 1000;
/** What is worth forgetting, in UTF-16 units. */
const LARGE = 64 * 1024;
/** How much of a scan is in memory, in UTF-16 units; a larger document comes alone. */
const PAGE_SIZE = 128 * 1024;
const PAGE_LENGTH = 64;
/** How long a write waits for another process, such as a checkpoint. */
const BUSY_MS = 1000;
/** SQLite's codes of errors: https://www.sqlite.org/rescode.html. */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;
/** SQLite's numbers of `PRAGMA synchronous`. */
const FULL = 2;

export class Store {
  /** The insertion that still takes documents. */
  private open?: Insertion;
  /** Ends after all statements so far. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private prisma: PrismaClient,
    private ids: Ids,
  ) {}

  static async open(path: string): Promise<Store> {
    const prisma = await connect(path);
    const [checked] = await pragma<{ quick_check: string }>(prisma, 'quick_check(1)');
    if (checked?.quick_check !== 'ok')
      throw new Error(`the store \`${path}\` is damaged: ${checked?.quick_check}`);
    await prisma.$executeRaw`
      CREATE TABLE IF NOT EXISTS documents (
        id TEXT PRIMARY KEY,
        collection TEXT NOT NULL,
        size INTEGER NOT NULL,
        data TEXT NOT NULL
      )`;
    await prisma.$executeRaw`
      CREATE INDEX IF NOT EXISTS documents_by_collection ON documents (collection, id, size)`;
    const newest = await prisma.document.findFirst({
      orderBy: { id: 'desc' },
      select: { id: true },
    });
    return new Store(prisma, new Ids(newest?.id));
  }

  /** Documents that come while others are written share one insertion, and its sync. */
  async create(collection: string, data: string): Promise<string> {
    const document = { id: this.ids.next(), collection, size: data.length, data };
    const { open } = this;
    const fits =
      open &&
      open.size + document.size <= INSERTION_SIZE &&
      open.documents.length < INSERTION_LENGTH;
    const insertion = (this.open = fits ? open : this.insertion());
    insertion.documents.push(document);
    insertion.size += document.size;
    await insertion.done;
    return document.id;
  }

  async read(collection: string, id: string): Promise<string | undefined> {
    const where = { id, collection };
    const found = await this.run(() =>
      this.prisma.document.findUnique({ where, select: { data: true } }),
    );
    return found?.data;
  }

  /** Returns whether the document exists. */
  async update(collection: string, id: string, data: string): Promise<boolean> {
    const change = {
      where: { id, collection },
      data: { size: data.length, data },
      select: { id: true },
    };
    const updated = await exists(this.run(() => this.prisma.document.update(change)));
    forget(data.length);
    return updated;
  }

  /** Returns whether the document existed. */
  async delete(collection: string, id: string): Promise<boolean> {
    const change = { where: { id, collection }, select: { id: true } };
    return await exists(this.run(() => this.prisma.document.delete(change)));
  }

  count(collection: string): Promise<number> {
    return this.run(() => this.prisma.document.count({ where: { collection } }));
  }

  /** Reads a collection in pages, in the order of ids; documents that are created meanwhile are left out. */
  async *pages(collection: string, skip = 0): AsyncGenerator<Stored[]> {
    const newest = {
      where: { collection },
      orderBy: { id: 'desc' },
      select: { id: true },
    } as const;
    const last = (await this.run(() => this.prisma.document.findFirst(newest)))?.id ?? '';
    for (let after = ''; after < last; skip = 0) {
      const next = { collection, id: { gt: after, lte: last } };
      const sizes = await this.sizes({ where: next, skip });
      const page = fitting(sizes);
      after = page.at(-1)?.id ?? last;
      yield* this.documents(collection, page);
    }
  }

  /** Reads these documents in pages, in this order; those that do not exist are left out. */
  async *pagesOf(collection: string, ids: string[]): AsyncGenerator<Stored[]> {
    for (let from = 0; from < ids.length;) {
      const wanted = ids.slice(from, from + PAGE_LENGTH);
      const sizes = await this.sizes({ where: { collection, id: { in: wanted } } });
      const size = new Map(sizes.map((document) => [document.id, document.size]));
      const page = fitting(wanted.map((id) => ({ id, size: size.get(id) ?? 0 })));
      from += page.length;
      yield* this.documents(collection, page);
    }
  }

  async close(): Promise<void> {
    await this.last;
    await this.prisma.$disconnect();
  }

  private insertion(): Insertion {
    const insertion: Insertion = { documents: [], size: 0, done: Promise.resolve() };
    insertion.done = this.run(async () => {
      // All calls that have arrived come along.
      await setImmediate();
      if (this.open === insertion) this.open = undefined;
      const rows = insertion.documents.map(
        (row) => sql`(${row.id}, ${row.collection}, ${row.size}, ${row.data})`,
      );
      // One statement is a transaction of its own: those of Prisma open a connection each.
      await this.prisma
        .$executeRaw`INSERT INTO documents (id, collection, size, data) VALUES ${join(rows)}`;
      forget(insertion.size);
    });
    return insertion;
  }

  /** One statement at a time: SQLite runs on this thread, and those that wait inside Prisma would take memory. */
  private run<T>(statement: () => PromiseLike<T>): Promise<T> {
    const result = this.last.then(statement).catch((error: unknown) => {
      throw problemOf(error) ?? error;
    });
    this.last = result.catch(() => undefined);
    return result;
  }

  private sizes(which: Prisma.DocumentFindManyArgs): Promise<{ id: string; size: number }[]> {
    const select = { id: true, size: true };
    const listed = { ...which, select, orderBy: { id: 'asc' }, take: PAGE_LENGTH } as const;
    return this.run(() => this.prisma.document.findMany(listed));
  }

  private async *documents(collection: string, page: { id: string }[]): AsyncGenerator<Stored[]> {
    const ids = page.map(({ id }) => id);
    const read = { where: { collection, id: { in: ids } }, select: { id: true, data: true } };
    const found = await this.run(() => this.prisma.document.findMany(read));
    const data = new Map(found.map((document) => [document.id, document.data]));
    yield ids.flatMap((id) => (data.has(id) ? [{ id, data: data.get(id) ?? '' }] : []));
  }
}

/** Brings what SQLite's log holds into its file, while the service runs. */
export async function checkpoint(path: string): Promise<void> {
  if (!existsSync(path)) throw new Error(`the store \`${path}\` does not exist`);
  const prisma = await connect(path);
  const [answer] = await pragma<{ busy: number | bigint }>(prisma, 'wal_checkpoint(TRUNCATE)');
  await prisma.$disconnect();
  if (Number(answer?.busy) !== 0)
    throw new Error(`failed to checkpoint the store \`${path}\`: it is in use`);
}

async function connect(path: string): Promise<PrismaClient> {
  const prisma = new PrismaClient({
    adapter: new PrismaLibSQL({ url: `file:${path}` }),
    errorFormat: 'minimal',
  });
  await pragma(prisma, `busy_timeout = ${BUSY_MS}`);
  await pragma(prisma, 'journal_mode = WAL');
  await pragma(prisma, 'synchronous = FULL');
  const [journal] = await pragma<{ journal_mode: string }>(prisma, 'journal_mode');
  const [sync] = await pragma<{ synchronous: number | bigint }>(prisma, 'synchronous');
  if (journal?.journal_mode !== 'wal' || Number(sync?.synchronous) !== FULL) {
    throw new Error(`the store \`${path}\` is not durable: ${JSON.stringify([journal, sync])}`);
  }
  return prisma;
}

function pragma<Row>(prisma: PrismaClient, text: string): Promise<Row[]> {
  return prisma.$queryRawUnsafe<Row[]>(`PRAGMA ${text}`);
}

/** Prisma keeps its last 100 debug messages, with the documents that were written, in two places. */
function forget(size: number): void {
  if (size < LARGE) return;
  clearLogs();
  const debug = Debug('store');
  for (let message = 0; message < 100; message++) debug('');
}

/** The first documents that are a page together, one at least. */
function fitting<D extends { size: number }>(documents: D[]): D[] {
  let size = 0;
  const over = documents.findIndex((document) => (size += document.size) > PAGE_SIZE);
  return over < 0 ? documents : documents.slice(0, Math.max(over, 1));
}

/** Whether a change found its document; Prisma throws if not. */
async function exists(change: Promise<unknown>): Promise<boolean> {
  try {
    await change;
    return true;
  } catch (error) {
    if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2025')
      return false;
    throw error;
  }
}

/** Says in the service's terms why the store failed. */
function problemOf(error: unknown): Problem | undefined {
  const { code, message: cause } = driverError(error);
  switch (code) {
    case SQLITE_BUSY:
      return new Problem(status.UNAVAILABLE, 'STORE_BUSY', 'the store is not available', {
        retrySeconds: 1,
      });
    case SQLITE_FULL: {
      log('error', 'the store is full', { cause });
      const message = 'the store has no space left: nothing was changed, and reads still work';
      return new Problem(status.RESOURCE_EXHAUSTED, 'STORE_FULL', message);
    }
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      log('error', 'the store is damaged', { cause });
      return new Problem(status.DATA_LOSS, 'STORE_DAMAGED', 'the store is damaged');
    default:
      return undefined;
  }
}

/** SQLite's own error, which Prisma wraps if it knows the kind. */
function driverError(error: unknown): { code?: number; message?: string } {
  const { meta } = error as { meta?: { driverAdapterError?: unknown } };
  const { cause } = (meta?.driverAdapterError ?? error) as {
    cause?: { originalCode?: string; originalMessage?: string };
  };
  // The low byte of an extended code is the code.
  return { code: Number(cause?.originalCode) & 0xff, message: cause?.originalMessage };
}
