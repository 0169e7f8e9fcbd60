/** The process: `node server.js` serves until a signal; `node server.js checkpoint` is for backups. */

import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';

import { Server } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';

import { serverCredentials } from './credentials';
import { Guard, limited } from './guard';
import { Health } from './health';
import { log, setLevel } from './log';
import { DATABASE, HEALTH, SERVED } from './proto';
import { databaseService } from './service';
import { type Settings, WrongSettings, readSettings, readStore } from './settings';
import { Store, checkpoint } from './store';

/** Of sysexits.h. */
const EX_USAGE = 64;
const EX_CONFIG = 78;
/** How long health reports NOT_SERVING before the port is closed. */
const NOTICE_MS = 200;
/** How long calls may continue after that. */
const DRAIN_MS = 10_000;
/** How long the last messages of calls may take to be sent. */
const SENT_MS = 200;
/** How long sockets may take to close. */
const FLUSH_MS = 1000;
/** Larger messages are not even read. */
const READ_LIMIT = 16 << 20;

async function serve(settings: Settings): Promise<void> {
  const stopped = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  setLevel(settings.logLevel);
  const store = await Store.open(settings.store);
  const guard = new Guard(settings);
  const health = new Health(['', 'database.DatabaseService']);
  const server = new Server({
    interceptors: [guard.intercept],
    'grpc.max_receive_message_length': READ_LIMIT,
    'grpc.max_concurrent_streams': 256,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.max_connection_age_ms': 3_600_000,
  });
  server.addService(limited(DATABASE.service), databaseService(store, settings.owners));
  server.addService(limited(HEALTH.service), health.handlers());
  new ReflectionService(SERVED).addToServer(server);

  const { name, listen } = settings;
  const bind = promisify(server.bindAsync.bind(server));
  const port = await bind(`${listen.host}:${listen.port}`, serverCredentials(settings.identity));
  log('info', 'serving', { service: name, address: `${listen.host}:${port}` });

  await stopped;
  log('info', 'draining', { service: name });
  guard.draining = true;
  health.stop();
  await setTimeout(NOTICE_MS);
  health.end();
  // Connections are closed when their calls have ended: what was not sent by then would be lost.
  const close = promisify(server.tryShutdown.bind(server));
  const ended = guard
    .idle()
    .then(() => setTimeout(SENT_MS))
    .then(() => close());
  if (
    !(await Promise.race([ended.then(() => true), setTimeout(DRAIN_MS, false, { ref: false })]))
  ) {
    log('warn', 'cancelled the calls that were open at the drain deadline', { service: name });
    server.forceShutdown();
  }
  await store.close();
  log('info', 'stopped', { service: name });
}

async function run([command, ...more]: string[]): Promise<number> {
  try {
    if (command === undefined) {
      await serve(readSettings());
    } else if (command === 'checkpoint' && more.length === 0) {
      await checkpoint(readStore());
      log('info', 'the log is in the file');
    } else {
      console.error('usage: node server.js               serves, configured by its environment');
      console.error("       node server.js checkpoint    brings the store's log into its file");
      return EX_USAGE;
    }
    return 0;
  } catch (error) {
    if (error instanceof WrongSettings) {
      console.error(error.message);
      return EX_CONFIG;
    }
    log('error', error instanceof Error ? error.message : String(error));
    return 1;
  }
}

run(process.argv.slice(2)).then((code) => {
  // The process ends when its sockets are closed.
  process.exitCode = code;
  setTimeout(FLUSH_MS, undefined, { ref: false }).then(() => process.exit());
});
