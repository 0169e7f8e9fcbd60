/** Mutual TLS by the deployment's authority. The files are read again each second, for renewed certificates. */

import { ServerCredentials, experimental } from '@grpc/grpc-js';

import type { Identity } from './settings';

const REFRESH_MS = 1000;

export async function serverCredentials(identity: Identity | undefined): Promise<ServerCredentials> {
  if (!identity) return ServerCredentials.createInsecure();
  const files = new experimental.FileWatcherCertificateProvider({
    caCertificateFile: identity.ca,
    certificateFile: identity.cert,
    privateKeyFile: identity.key,
    refreshIntervalMs: REFRESH_MS,
  });
  const credentials = experimental.createCertificateProviderServerCredentials(files, files, true);
  // Until the files are read, connections would be dropped.
  await new Promise((read) => files.addCaCertificateListener(read));
  return credentials;
}
