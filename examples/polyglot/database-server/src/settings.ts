/** Configuration from the environment. All faults are collected, so one start reports all of them. */

import { isIP, isIPv4 } from 'node:net';

import { type Identity, readIdentity } from './credentials';
import { type Level, isLevel } from './log';

export interface Settings {
  name: string;
  listen: Address;
  /** Missing only in the insecure loopback mode of tests. */
  identity?: Identity;
  /** Who may call, besides the administrator. */
  callers: Set<string>;
  /** The owner of each collection that only one caller may use. */
  owners: Map<string, string>;
  store: string;
  logLevel: Level;
}

export interface Address {
  host: string;
  port: number;
}

export class WrongSettings extends Error {
  constructor(faults: string[]) {
    super(`the configuration is wrong:\n${faults.join('\n')}`);
  }
}

export function readSettings(environment = process.env): Settings {
  const read = new Environment(environment);
  const insecure = read.insecure();
  const settings = {
    name: read.required('PSPD_NAME', "the service's domain name"),
    listen: read.listen(insecure),
    identity: insecure ? undefined : read.identity(),
    callers: new Set(read.list('PSPD_CALLERS')),
    owners: read.owners(),
    store: read.store(),
    logLevel: read.logLevel(),
  };
  read.finish();
  return settings;
}

/** All that a maintenance command needs to know. */
export function readStore(environment = process.env): string {
  const read = new Environment(environment);
  const store = read.store();
  read.finish();
  return store;
}

class Environment {
  private faults: string[] = [];

  constructor(private variables: NodeJS.ProcessEnv) {}

  finish(): void {
    if (this.faults.length > 0) throw new WrongSettings(this.faults);
  }

  required(key: string, meaning: string): string {
    const value = this.optional(key);
    if (value === '') this.fault(key, `is not set: set it to ${meaning}`);
    return value;
  }

  list(key: string): string[] {
    const parts = this.optional(key).split(',');
    return parts.map((part) => part.trim()).filter((part) => part !== '');
  }

  insecure(): boolean {
    return this.optional('PSPD_INSECURE_LOOPBACK') === '1';
  }

  listen(insecure: boolean): Address {
    const meaning = 'an address such as 0.0.0.0:50051';
    const value = this.required('PSPD_LISTEN', meaning);
    const [, host = '', port = ''] = /^(.+):(\d{1,5})$/.exec(value) ?? [];
    const ip = host.replace(/^\[(.*)\]$/, '$1');
    const valid = (host === ip ? isIPv4(ip) : isIP(ip) === 6) && Number(port) <= 65535;
    if (value !== '' && !valid)
      this.fault('PSPD_LISTEN', `is \`${value}\`, which is not ${meaning}`);
    if (insecure && valid && ip !== '::1' && !ip.startsWith('127.')) {
      this.fault('PSPD_LISTEN', 'must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1');
    }
    return { host, port: Number(port) };
  }

  identity(): Identity {
    const identity = {
      ca: this.required('PSPD_TLS_CA', "the path of the deployment's CA certificate"),
      cert: this.required('PSPD_TLS_CERT', "the path of the service's certificate chain"),
      key: this.required('PSPD_TLS_KEY', "the path of the certificate's private key"),
    };
    if (identity.ca && identity.cert && identity.key) {
      try {
        readIdentity(identity);
      } catch (error) {
        this.fault(
          'PSPD_TLS_CERT',
          `and its key and authority are not usable: ${(error as Error).message}`,
        );
      }
    }
    return identity;
  }

  owners(): Map<string, string> {
    const owners = new Map<string, string>();
    for (const pair of this.list('DATABASE_OWNERS')) {
      const [, collection, owner] = /^([^=]+)=(.+)$/.exec(pair) ?? [];
      if (collection && owner) owners.set(collection, owner);
      else
        this.fault(
          'DATABASE_OWNERS',
          `has \`${pair}\`, which is not of the form \`RESOURCE=CALLER\``,
        );
    }
    return owners;
  }

  /** Beside the path that the Rust service uses, so that neither opens the other's file. */
  store(): string {
    const own = this.optional('DATABASE_PRISMA_STORE');
    if (own !== '') return own;
    const store = this.required('DATABASE_STORE', "the path of the database's file");
    if (/^postgres(ql)?:/.test(store))
      this.fault('DATABASE_STORE', 'is a URL; this service stores in a file');
    return `${store}.prisma`;
  }

  logLevel(): Level {
    const level = this.optional('LOG_LEVEL') || 'info';
    if (isLevel(level)) return level;
    this.fault(
      'LOG_LEVEL',
      `is \`${level}\`, which is not one of off, error, warn, info, debug, trace`,
    );
    return 'info';
  }

  private optional(key: string): string {
    return this.variables[key] ?? '';
  }

  private fault(key: string, fault: string): void {
    this.faults.push(`\`${key}\` ${fault}`);
  }
}
