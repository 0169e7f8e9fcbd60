/** Asks for the server's token. */
import { Component, inject, signal } from '@angular/core';
import type { Key } from '../dictionary';
import { Session } from '../session';
import { Translator } from '../translator';

@Component({
  selector: 'app-sign-in',
  template: `
    <form class="card stack sign-in" (submit)="$event.preventDefault(); signIn(token.value)">
      <h1>{{ t('sign.title') }}</h1>
      <p class="quiet">{{ t('sign.body') }}</p>
      <label class="field">
        <span>{{ t('sign.token') }}</span>
        <input
          #token
          name="token"
          type="password"
          autocomplete="current-password"
          required
          aria-describedby="sign-fault"
          [attr.aria-invalid]="fault() !== null"
        />
      </label>
      <p class="wrong" id="sign-fault" role="alert">{{ fault() ? t(fault()!) : '' }}</p>
      <div class="actions">
        <button class="primary" type="submit" name="sign-in" [disabled]="busy()">
          {{ t('sign.in') }}
        </button>
      </div>
    </form>
  `,
})
export class SignIn {
  private readonly session = inject(Session);
  protected readonly t = inject(Translator).t;
  protected readonly busy = signal(false);
  protected readonly fault = signal<Key | null>(null);

  protected async signIn(token: string): Promise<void> {
    this.busy.set(true);
    this.fault.set(null);
    try {
      if (!(await this.session.signIn(token))) this.fault.set('sign.wrong');
    } catch {
      this.fault.set('problem.unreachable');
    } finally {
      this.busy.set(false);
    }
  }
}
