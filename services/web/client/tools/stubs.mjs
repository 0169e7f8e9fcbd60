/** Generates the typed stubs in `src/stubs` from the protocols, with the distribution's `protoc`. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stubs = `${root}src/stubs`;
rmSync(stubs, { recursive: true, force: true });
mkdirSync(stubs, { recursive: true });

const { status, error } = spawnSync(
  process.env.PROTOC ?? 'protoc',
  [
    `--plugin=${root}node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es`,
    `--es_out=${stubs}`,
    '--es_opt=target=ts',
    `-I${root}../../../proto`,
    `-I${root}proto`,
    'business_service.proto',
    'database_service.proto',
    'google/rpc/error_details.proto',
  ],
  { stdio: 'inherit' },
);
if (error) throw new Error(`failed to run protoc: ${error.message}. Install protobuf-compiler.`);
process.exit(status ?? 1);
