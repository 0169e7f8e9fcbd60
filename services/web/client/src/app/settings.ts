/** Which collection and which model every page works on. */
import { Injectable, effect, signal } from '@angular/core';
import { recall, remember } from './memory';

@Injectable({ providedIn: 'root' })
export class Settings {
  readonly collection = signal(recall('collection') || 'documents');
  readonly model = signal(recall('model') || 'default');

  constructor() {
    effect(() => remember('collection', this.collection()));
    effect(() => remember('model', this.model()));
  }
}
