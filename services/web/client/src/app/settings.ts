/** The collection and the model that all pages use. */
import { Injectable, effect, signal } from '@angular/core';
import { load, save } from './storage';

@Injectable({ providedIn: 'root' })
export class Settings {
  readonly collection = signal(load('collection') || 'documents');
  readonly model = signal(load('model') || 'default');

  constructor() {
    effect(() => save('collection', this.collection()));
    effect(() => save('model', this.model()));
  }
}
