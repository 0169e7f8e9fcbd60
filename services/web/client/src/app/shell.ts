/** The frame around every page: navigation, language, what is worked on, and the connection's state. */
import { Component, type ElementRef, inject, viewChild } from '@angular/core';
import { takeUntilDestroyed } from '@angular/core/rxjs-interop';
import { NavigationEnd, Router, RouterLink, RouterLinkActive, RouterOutlet } from '@angular/router';
import { filter, skip } from 'rxjs';
import { languages, names } from './dictionary';
import { Live } from './live';
import { Settings } from './settings';
import { Speech } from './speech';

@Component({
  selector: 'app-root',
  imports: [RouterLink, RouterLinkActive, RouterOutlet],
  template: `
    <a class="skip" href="#main" (click)="$event.preventDefault(); focusMain()">{{
      say('skip')
    }}</a>
    <header class="top">
      <div class="bar">
        <a class="brand" routerLink="/">
          <img src="favicon.svg" alt="" width="28" height="28" />
          <span>pspd</span>
        </a>
        <nav [attr.aria-label]="say('nav')">
          @for (page of pages; track page.path) {
            <a
              [routerLink]="page.path"
              routerLinkActive="current"
              ariaCurrentWhenActive="page"
              [routerLinkActiveOptions]="{ exact: true }"
              >{{ say(page.name) }}</a
            >
          }
        </nav>
        <div class="languages" role="group" [attr.aria-label]="say('language')">
          @for (language of languages; track language) {
            <button
              type="button"
              [lang]="language"
              [attr.aria-pressed]="speech.language() === language"
              (click)="speech.choose(language)"
            >
              {{ names[language] }}
            </button>
          }
        </div>
      </div>
    </header>
    <section class="context" [attr.aria-label]="say('settings')">
      <span class="live" role="status" [class]="live.state()">{{ say(liveName()) }}</span>
      <label>
        <span>{{ say('settings.collection') }}</span>
        <input
          name="collection"
          autocomplete="off"
          spellcheck="false"
          [value]="settings.collection()"
          (change)="choose($event, 'collection')"
        />
      </label>
      <label>
        <span>{{ say('settings.model') }}</span>
        <input
          name="model"
          autocomplete="off"
          spellcheck="false"
          [value]="settings.model()"
          (change)="choose($event, 'model')"
        />
      </label>
    </section>
    <main #main id="main" tabindex="-1">
      <router-outlet />
    </main>
  `,
})
export class Shell {
  protected readonly speech = inject(Speech);
  protected readonly live = inject(Live);
  protected readonly settings = inject(Settings);
  protected readonly say = this.speech.say;
  protected readonly languages = languages;
  protected readonly names = names;
  protected readonly pages = [
    { path: '/', name: 'nav.overview' },
    { path: '/documents', name: 'nav.documents' },
    { path: '/learn', name: 'nav.learn' },
  ] as const;
  private readonly main = viewChild.required<ElementRef<HTMLElement>>('main');
  private readonly router = inject(Router);

  constructor() {
    const arrived = this.router.events.pipe(filter((event) => event instanceof NavigationEnd));
    // The first page keeps the browser's own focus; a later one is announced by moving it.
    arrived.pipe(skip(1), takeUntilDestroyed()).subscribe(() => this.focusMain());
  }

  protected liveName(): 'live.live' | 'live.connecting' | 'live.lost' {
    return `live.${this.live.state()}`;
  }

  protected choose(event: Event, what: 'collection' | 'model'): void {
    const field = event.target as HTMLInputElement;
    const name = field.value.trim();
    if (name) this.settings[what].set(name);
    field.value = this.settings[what]();
  }

  protected focusMain(): void {
    this.main().nativeElement.focus();
  }
}
