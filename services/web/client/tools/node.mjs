/**
 * Runs its arguments under the Node of the packages `node-linux-*`: Angular does not support the
 * older Node of the distributions, and an old npm does not link the newer one into `.bin`.
 *
 *   npm run SCRIPT -> node tools/node.mjs FILE ARGUMENT...
 *
 * An old Node's npm also skips native parts that need a newer one; they are installed here, by the
 * same npm under the newer Node. Where no such package exists (not Linux) the caller's Node runs.
 * Programs that the arguments start find the same Node first in their PATH.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const brought = `${root}node_modules/node-linux-${process.arch}/bin/node`;
const node = existsSync(brought) ? brought : process.execPath;
const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH}` };
const bundler = readdirSync(`${root}node_modules/@rolldown`);

if (!bundler.some((name) => name.startsWith('binding-'))) {
  const npm = process.env.npm_execpath;
  if (!npm) throw new Error('native parts are missing: run this by `npm run`');
  run([npm, 'install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']);
}
run(process.argv.slice(2));

function run(args) {
  const { status, error } = spawnSync(node, args, { cwd: root, stdio: 'inherit', env });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}
