/** Ids of new documents: UUIDs of version 7, each after all that exist, even if the clock goes back. */

import { randomUUID } from 'node:crypto';

export class Ids {
  private milliseconds: number;

  /** Continues after `newest`, the greatest id of the store. */
  constructor(newest = '') {
    this.milliseconds = parseInt(newest.replace('-', '').slice(0, 12), 16) || 0;
  }

  /** Each id has a millisecond of its own, so that the random bits do not decide the order. */
  next(): string {
    this.milliseconds = Math.max(Date.now(), this.milliseconds + 1);
    const time = this.milliseconds.toString(16).padStart(12, '0');
    return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice('xxxxxxxx-xxxx-4'.length)}`;
  }
}
