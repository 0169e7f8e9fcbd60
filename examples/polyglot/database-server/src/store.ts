/** Documents in a file, by Prisma over SQLite. A change is answered when it is on stable storage. */

import { status } from '@grpc/grpc-js';
import { PrismaLibSQL } from '@prisma/adapter-libsql';

import { type Prisma, PrismaClient } from '../generated/prisma/client';
import { Ids } from './ids';
import { log } from './log';
import { Problem } from './problem';

export interface Stored {
  id: string;
  data: string;
}

/** How much of a scan is in memory, in UTF-16 units; a larger document comes alone. */
const PAGE_SIZE = 128 * 1024;
const PAGE_LENGTH = 256;
/** How long a write waits for another process, such as a checkpoint. */
const BUSY_MS = 2000;
/** SQLite's numbers of `PRAGMA synchronous`. */
const FULL = 2;

export class Store {
  private constructor(
    private prisma: PrismaClient,
    private ids: Ids,
  ) {}

  static async open(path: string): Promise<Store> {
    const prisma = await connect(path);
    const [checked] = await pragma<{ quick_check: string }>(prisma, 'quick_check(1)');
    if (checked?.quick_check !== 'ok') throw new Error(`the store \`${path}\` is damaged: ${checked?.quick_check}`);
    await prisma.$executeRaw`
      CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        size INTEGER NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (collection, id)
      )`;
    const newest = await prisma.document.aggregate({ _max: { id: true } });
    return new Store(prisma, new Ids(newest._max.id ?? undefined));
  }

  async create(collection: string, data: string): Promise<string> {
    const id = this.ids.next();
    await attempt(this.prisma.document.createMany({ data: { collection, id, size: data.length, data } }));
    return id;
  }

  async read(collection: string, id: string): Promise<string | undefined> {
    const found = await attempt(this.prisma.document.findUnique({ where: { collection_id: { collection, id } } }));
    return found?.data;
  }

  /** Returns whether the document exists. */
  async update(collection: string, id: string, data: string): Promise<boolean> {
    const changed = this.prisma.document.updateMany({ where: { collection, id }, data: { size: data.length, data } });
    return (await attempt(changed)).count > 0;
  }

  /** Returns whether the document existed. */
  async delete(collection: string, id: string): Promise<boolean> {
    return (await attempt(this.prisma.document.deleteMany({ where: { collection, id } }))).count > 0;
  }

  count(collection: string): Promise<number> {
    return attempt(this.prisma.document.count({ where: { collection } }));
  }

  /** Reads a collection in pages, in the order of ids; documents that are created meanwhile are left out. */
  async *pages(collection: string, skip = 0): AsyncGenerator<Stored[]> {
    const newest = await attempt(this.prisma.document.aggregate({ where: { collection }, _max: { id: true } }));
    const last = newest._max.id ?? '';
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
    for (let from = 0; from < ids.length; ) {
      const wanted = ids.slice(from, from + PAGE_LENGTH);
      const sizes = await this.sizes({ where: { collection, id: { in: wanted } } });
      const size = new Map(sizes.map((document) => [document.id, document.size]));
      const page = fitting(wanted.map((id) => ({ id, size: size.get(id) ?? 0 })));
      from += page.length;
      yield* this.documents(collection, page);
    }
  }

  async close(): Promise<void> {
    await this.prisma.$disconnect();
  }

  private sizes(which: Prisma.DocumentFindManyArgs): Promise<{ id: string; size: number }[]> {
    const select = { id: true, size: true };
    return attempt(this.prisma.document.findMany({ ...which, select, orderBy: { id: 'asc' }, take: PAGE_LENGTH }));
  }

  private async *documents(collection: string, page: { id: string }[]): AsyncGenerator<Stored[]> {
    const ids = page.map(({ id }) => id);
    const where = { collection, id: { in: ids } };
    const found = await attempt(this.prisma.document.findMany({ where, select: { id: true, data: true } }));
    const data = new Map(found.map((document) => [document.id, document.data]));
    yield ids.flatMap((id) => (data.has(id) ? [{ id, data: data.get(id) ?? '' }] : []));
  }
}

/** Brings what SQLite's log holds into its file, while the service runs. */
export async function checkpoint(path: string): Promise<void> {
  const prisma = await connect(path);
  const [answer] = await pragma<{ busy: number | bigint }>(prisma, 'wal_checkpoint(TRUNCATE)');
  await prisma.$disconnect();
  if (Number(answer?.busy) !== 0) throw new Error(`failed to checkpoint the store \`${path}\`: it is in use`);
}

async function connect(path: string): Promise<PrismaClient> {
  const prisma = new PrismaClient({ adapter: new PrismaLibSQL({ url: `file:${path}` }) });
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

/** The first documents that are a page together, one at least. */
function fitting<D extends { size: number }>(documents: D[]): D[] {
  let size = 0;
  const over = documents.findIndex((document) => (size += document.size) > PAGE_SIZE);
  return over < 0 ? documents : documents.slice(0, Math.max(over, 1));
}

/** Says in the service's terms why the store failed. */
async function attempt<T>(query: PromiseLike<T>): Promise<T> {
  try {
    return await query;
  } catch (error) {
    const cause = (error as Error).message;
    if (/P1008|SQLITE_BUSY|database is locked|timed out/.test(cause + (error as { code?: string }).code)) {
      throw new Problem(status.UNAVAILABLE, 'STORE_BUSY', 'the store is not available', { retrySeconds: 1 });
    }
    if (/SQLITE_FULL|disk is full/.test(cause)) {
      log('error', 'the store is full', { cause });
      const message = 'the store has no space left: nothing was changed, and reads still work';
      throw new Problem(status.RESOURCE_EXHAUSTED, 'STORE_FULL', message);
    }
    if (/SQLITE_CORRUPT|SQLITE_NOTADB|malformed/.test(cause)) {
      log('error', 'the store is damaged', { cause });
      throw new Problem(status.DATA_LOSS, 'STORE_DAMAGED', 'the store is damaged');
    }
    throw error;
  }
}
