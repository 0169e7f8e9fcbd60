/** The collections that the server knows, and the selected one. */
import { Injectable, computed, inject, signal } from '@angular/core';
import { Calls } from './calls';
import { Settings } from './settings';

@Injectable({ providedIn: 'root' })
export class Collections {
  private readonly calls = inject(Calls);
  private readonly settings = inject(Settings);
  private readonly known = signal<readonly string[]>([]);

  readonly names = computed(() =>
    [...new Set([...this.known(), this.settings.collection()])].sort((a, b) => a.localeCompare(b)),
  );

  async refresh(): Promise<void> {
    try {
      this.known.set((await this.calls.business.listCollections({})).collections);
    } catch {
      // The list is optional: any name can be typed, and the query of its documents shows the error.
    }
  }
}
