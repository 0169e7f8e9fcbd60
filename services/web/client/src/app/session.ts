/**
 * Whether the server requires a token, and whether this browser is signed in.
 *
 *   unknown -> open                     no token is required
 *   unknown -> in <-> out               the session is in a cookie that scripts cannot read
 */
import { Injectable, signal } from '@angular/core';

const PATH = '/api/v1/session';

@Injectable({ providedIn: 'root' })
export class Session {
  readonly state = signal<'unknown' | 'open' | 'in' | 'out'>('unknown');

  constructor() {
    void this.ask();
  }

  private async ask(): Promise<void> {
    try {
      const response = await fetch(PATH);
      const { required, signed_in } = (await response.json()) as Record<string, boolean>;
      this.state.set(required ? (signed_in ? 'in' : 'out') : 'open');
    } catch {
      // Assume an open server; the first rejected call corrects this.
      this.state.set('open');
    }
  }

  /** Returns whether the token was right; throws if the server does not respond. */
  async signIn(token: string): Promise<boolean> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(PATH, {
      method: 'POST',
      headers,
      body: JSON.stringify({ token }),
    });
    if (response.ok) this.state.set('in');
    else if (response.status !== 401) throw new Error(`HTTP ${response.status}`);
    return response.ok;
  }

  async signOut(): Promise<void> {
    await fetch(PATH, { method: 'DELETE' });
    this.state.set('out');
  }

  /** Records that a call was rejected: the session has ended, or there was none. */
  lost(): void {
    this.state.set('out');
  }
}
