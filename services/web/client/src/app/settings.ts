/**
 * The collection and the model that all pages use. The page's address has both, so that a link, the back button and a
 * reload select the same ones; the browser remembers the last ones for an address without them.
 */
import { Injectable, type WritableSignal, effect, inject, signal } from '@angular/core';
import { NavigationEnd, Router } from '@angular/router';
import { load, save } from './storage';

@Injectable({ providedIn: 'root' })
export class Settings {
  private readonly router = inject(Router);
  private readonly selected: Record<'collection' | 'model', WritableSignal<string>> = {
    collection: signal(load('collection') || 'documents'),
    model: signal(load('model') || 'default'),
  };
  readonly collection = this.selected.collection.asReadonly();
  readonly model = this.selected.model.asReadonly();

  constructor() {
    effect(() => save('collection', this.collection()));
    effect(() => save('model', this.model()));
    this.router.events.subscribe((event) => {
      if (event instanceof NavigationEnd) this.arrived(event.urlAfterRedirects);
    });
  }

  /** Selects another collection or model, on the same page. */
  choose(what: 'collection' | 'model', name: string): void {
    this.selected[what].set(name);
    // The open document is one of the previous collection.
    const queryParams = { [what]: name, ...(what === 'collection' && { document: null }) };
    void this.router.navigate([], { queryParams, queryParamsHandling: 'merge' });
  }

  /** Follows the address; one without a collection or a model gets the selected ones. */
  private arrived(url: string): void {
    const address = this.router.parseUrl(url).queryParamMap;
    for (const what of ['collection', 'model'] as const) {
      const name = address.get(what);
      if (name) this.selected[what].set(name);
    }
    const queryParams = { collection: this.collection(), model: this.model() };
    if (address.get('collection') && address.get('model')) return;
    void this.router.navigate([], { queryParams, queryParamsHandling: 'merge', replaceUrl: true });
  }
}
