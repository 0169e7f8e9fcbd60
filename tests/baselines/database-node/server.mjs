// A baseline: database.DatabaseService in Node with grpc-js and Prisma on SQLite, as durable as the Rust service
// (write-ahead log, full sync).
//
// Usage: node server.mjs PROTO STORE PORT

import { randomUUID } from 'node:crypto';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { PrismaLibSql } from '@prisma/adapter-libsql';
import prismaClient from '@prisma/client';

const [proto, store, port] = process.argv.slice(2);
const prisma = new prismaClient.PrismaClient({ adapter: new PrismaLibSql({ url: `file:${store}` }) });
await prisma.$queryRawUnsafe('PRAGMA journal_mode = WAL');
await prisma.$queryRawUnsafe('PRAGMA synchronous = FULL');
await prisma.$executeRawUnsafe(
  'CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, collection TEXT NOT NULL, data TEXT NOT NULL)',
);
await prisma.$executeRawUnsafe(
  'CREATE INDEX IF NOT EXISTS documents_by_collection ON documents (collection, id)',
);
const [{ synchronous }] = await prisma.$queryRawUnsafe('PRAGMA synchronous');
const [{ journal_mode: journal }] = await prisma.$queryRawUnsafe('PRAGMA journal_mode');
if (Number(synchronous) !== 2 || journal !== 'wal') {
  throw new Error(`the store is not as durable as the other: synchronous ${synchronous}, journal ${journal}`);
}

const fault = (code, details) => Object.assign(new Error(details), { code, details });
const missing = ({ collection, id }) => fault(grpc.status.NOT_FOUND, `no document ${id} in ${collection}`);

function check(data) {
  let document;
  try {
    document = JSON.parse(data);
  } catch (error) {
    throw fault(grpc.status.INVALID_ARGUMENT, error.message);
  }
  if (document === null || typeof document !== 'object' || Array.isArray(document)) {
    throw fault(grpc.status.INVALID_ARGUMENT, 'the data is not a JSON object');
  }
}

const unary = (answer) => (call, done) => {
  answer(call.request).then(
    (response) => done(null, response),
    (error) => done(error.code ? error : fault(grpc.status.INTERNAL, error.message)),
  );
};

const { DatabaseService } = grpc.loadPackageDefinition(loader.loadSync(proto)).database;
const server = new grpc.Server();
server.addService(DatabaseService.service, {
  create: unary(async ({ collection, data }) => {
    check(data);
    const { id } = await prisma.document.create({ data: { id: randomUUID(), collection, data } });
    return { id, success: true };
  }),
  read: unary(async (request) => {
    const { collection, id } = request;
    const found = await prisma.document.findFirst({ where: { collection, id } });
    if (!found) throw missing(request);
    return { data: found.data };
  }),
  update: unary(async (request) => {
    const { collection, id, data } = request;
    check(data);
    const { count } = await prisma.document.updateMany({ where: { collection, id }, data: { data } });
    if (count === 0) throw missing(request);
    return { success: true };
  }),
  delete: unary(async (request) => {
    const { collection, id } = request;
    const { count } = await prisma.document.deleteMany({ where: { collection, id } });
    if (count === 0) throw missing(request);
    return { success: true };
  }),
  async query(call) {
    const { collection } = call.request;
    for (let last = ''; ; ) {
      const page = await prisma.document.findMany({
        where: { collection, id: { gt: last } },
        orderBy: { id: 'asc' },
        take: 256,
      });
      for (const { id, data } of page) {
        if (!call.write({ id, data })) await new Promise((room) => call.once('drain', room));
      }
      if (page.length < 256) break;
      last = page.at(-1).id;
    }
    call.end();
  },
});
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
