/** The protocols, which are read once at start. */

import { join } from 'node:path';

import { loadPackageDefinition } from '@grpc/grpc-js';
import { type PackageDefinition, loadSync } from '@grpc/proto-loader';

import type { ProtoGrpcType as Database } from '../generated/proto/database_service';
import type { ProtoGrpcType as Health } from '../generated/proto/health';
import type { ProtoGrpcType as Status } from '../generated/proto/status';

const load = (name: string): PackageDefinition =>
  loadSync(name, {
    includeDirs: [join(__dirname, '../../proto')],
    defaults: true,
    enums: String,
    longs: Number,
  });

const database = load('database_service.proto');
const health = load('grpc/health/v1/health.proto');

/** What reflection describes. */
export const SERVED = { ...database, ...health };
export const DATABASE = (loadPackageDefinition(database) as unknown as Database).database
  .DatabaseService;
export const HEALTH = (loadPackageDefinition(health) as unknown as Health).grpc.health.v1.Health;
export const RPC = (loadPackageDefinition(load('status.proto')) as unknown as Status).google.rpc;
