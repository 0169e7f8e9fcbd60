/** Mutual TLS by the deployment's authority. The files are read again each second, so renewed certificates are served. */

import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { isDeepStrictEqual } from 'node:util';

import { ServerCredentials, experimental } from '@grpc/grpc-js';

import { log } from './log';

const REFRESH_MS = 1000;

/** Paths of PEM files. */
export interface Identity {
  ca: string;
  cert: string;
  key: string;
}

/** As grpc-js takes it. */
type Content = experimental.CaCertificateUpdate & experimental.IdentityCertificateUpdate;

export function serverCredentials(identity: Identity | undefined): ServerCredentials {
  if (!identity) return ServerCredentials.createInsecure();
  const files = new WatchedFiles(identity);
  return experimental.createCertificateProviderServerCredentials(files, files, true);
}

/** Reads the files, and checks that they belong together. */
export function readIdentity(paths: Identity): Content {
  const content = read(paths);
  createSecureContext({
    ca: content.caCertificate,
    cert: content.certificate,
    key: content.privateKey,
  });
  return content;
}

function read(paths: Identity): Content {
  return {
    caCertificate: readFileSync(paths.ca),
    certificate: readFileSync(paths.cert),
    privateKey: readFileSync(paths.key),
  };
}

class WatchedFiles implements experimental.CertificateProvider {
  private content: Content;
  private fault = '';
  private listeners = new Set<(content: Content) => void>();

  constructor(private paths: Identity) {
    this.content = readIdentity(paths);
    setInterval(() => this.refresh(), REFRESH_MS).unref();
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.add(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.add(listener);
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.listeners.delete(listener);
  }

  removeIdentityCertificateListener(
    listener: experimental.IdentityCertificateUpdateListener,
  ): void {
    this.listeners.delete(listener);
  }

  private add(listener: (content: Content) => void): void {
    this.listeners.add(listener);
    process.nextTick(() => listener(this.content));
  }

  /** While the files are damaged, or only half replaced, the previous content stays in use. */
  private refresh(): void {
    try {
      if (isDeepStrictEqual(read(this.paths), this.content)) return;
      this.content = readIdentity(this.paths);
      this.fault = '';
      for (const listener of this.listeners) listener(this.content);
      log('info', 'reloaded the certificate', { certificate: this.paths.cert });
    } catch (error) {
      const fault = (error as Error).message;
      if (fault !== this.fault)
        log('error', 'the new certificate is not usable; keeping the old one', { cause: fault });
      this.fault = fault;
    }
  }
}
