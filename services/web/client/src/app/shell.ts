/** The frame of every page: navigation, language, the selected collection and model, and the state of the connection. */
import { Component, type ElementRef, computed, inject, viewChild } from '@angular/core';
import { takeUntilDestroyed } from '@angular/core/rxjs-interop';
import {
  type IsActiveMatchOptions,
  NavigationEnd,
  Router,
  RouterLink,
  RouterLinkActive,
  RouterOutlet,
} from '@angular/router';
import { distinctUntilChanged, filter, map, skip } from 'rxjs';
import { Collections } from './collections';
import { languages, names } from './dictionary';
import { Live } from './live';
import { SignIn } from './parts/sign-in';
import { Session } from './session';
import { Settings } from './settings';
import { Translator } from './translator';

@Component({
  selector: 'app-root',
  imports: [RouterLink, RouterLinkActive, RouterOutlet, SignIn],
  template: `
    <a class="skip" href="#main" (click)="$event.preventDefault(); focusMain()">{{ t('skip') }}</a>
    <header class="top">
      <div class="bar">
        <a class="brand" routerLink="/">
          <img src="favicon.svg" alt="" width="28" height="28" />
          <span>pspd</span>
        </a>
        @if (inside()) {
          <nav [attr.aria-label]="t('nav')">
            @for (page of pages; track page.path) {
              <a
                [routerLink]="page.path"
                [queryParams]="{ collection: settings.collection(), model: settings.model() }"
                routerLinkActive="current"
                ariaCurrentWhenActive="page"
                [routerLinkActiveOptions]="samePath"
              >
                <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
                  <path [attr.d]="page.icon" />
                </svg>
                <span>{{ t(page.name) }}</span>
              </a>
            }
          </nav>
        }
        <div class="languages" role="group" [attr.aria-label]="t('language')">
          @for (language of languages; track language) {
            <button
              type="button"
              [lang]="language"
              [attr.aria-pressed]="translator.language() === language"
              (click)="translator.choose(language)"
            >
              {{ names[language] }}
            </button>
          }
        </div>
        @if (session.state() === 'in') {
          <button type="button" name="sign-out" (click)="session.signOut()">
            {{ t('sign.out') }}
          </button>
        }
      </div>
    </header>
    @if (inside()) {
      <section class="context" [attr.aria-label]="t('settings')">
        <span class="live" role="status" [class]="down().length ? 'lost' : live.state()">{{
          liveText()
        }}</span>
        <label>
          <span>{{ t('settings.collection') }}</span>
          <input
            name="collection"
            list="collections"
            autocomplete="off"
            spellcheck="false"
            [value]="settings.collection()"
            (focus)="collections.refresh()"
            (change)="choose($event, 'collection')"
          />
        </label>
        <datalist id="collections">
          @for (name of collections.names(); track name) {
            <option [value]="name"></option>
          }
        </datalist>
        <label>
          <span>{{ t('settings.model') }}</span>
          <input
            name="model"
            autocomplete="off"
            spellcheck="false"
            [value]="settings.model()"
            (change)="choose($event, 'model')"
          />
        </label>
      </section>
    }
    <main #main id="main" tabindex="-1">
      @switch (session.state()) {
        @case ('unknown') {}
        @case ('out') {
          <app-sign-in />
        }
        @default {
          <router-outlet />
        }
      }
    </main>
  `,
})
export class Shell {
  protected readonly translator = inject(Translator);
  protected readonly live = inject(Live);
  protected readonly session = inject(Session);
  protected readonly settings = inject(Settings);
  protected readonly collections = inject(Collections);
  protected readonly t = this.translator.t;
  protected readonly languages = languages;
  protected readonly names = names;
  protected readonly samePath: IsActiveMatchOptions = {
    paths: 'exact',
    queryParams: 'ignored',
    matrixParams: 'ignored',
    fragment: 'ignored',
  };
  protected readonly pages = [
    { path: '/', name: 'nav.overview', icon: 'M3 9l7-6 7 6v8h-5v-5H8v5H3z' },
    {
      path: '/documents',
      name: 'nav.documents',
      icon: 'M5 2.5h6l4 4v11H5zM11 2.5v4h4M7.5 11h5M7.5 14h5',
    },
    { path: '/classify', name: 'nav.classify', icon: 'M3 3h6l8 8-6 6-8-8zM6.5 6.5h.01' },
    { path: '/learn', name: 'nav.learn', icon: 'M10 4L2 8l8 4 8-4zM5 10v4c2 2 8 2 10 0v-4' },
    { path: '/monitor', name: 'nav.monitor', icon: 'M2 11h4l2-6 4 10 2-4h4' },
  ] as const;
  private readonly main = viewChild.required<ElementRef<HTMLElement>>('main');
  private readonly router = inject(Router);

  constructor() {
    const arrived = this.router.events.pipe(
      filter((event) => event instanceof NavigationEnd),
      map((event) => event.urlAfterRedirects.split('?')[0]),
      distinctUntilChanged(),
    );
    // The first page keeps the browser's focus; later pages get it, so that screen readers announce them.
    arrived.pipe(skip(1), takeUntilDestroyed()).subscribe(() => this.focusMain());
  }

  /** Whether the visitor may use the pages. */
  protected inside(): boolean {
    return ['open', 'in'].includes(this.session.state());
  }

  /** The services that are known not to serve. */
  protected readonly down = computed(() =>
    this.live.services().filter(({ state }) => state === 'down'),
  );

  /** The state of the feed, or what does not serve while the feed works. */
  protected readonly liveText = computed(() => {
    const state = this.live.state();
    const names = this.down().map(({ name }) => this.translator.service(name));
    if (state !== 'live' || names.length === 0) return this.t(`live.${state}`);
    return this.t('live.down', { services: names.join(', ') });
  });

  protected choose(event: Event, what: 'collection' | 'model'): void {
    const field = event.target as HTMLInputElement;
    const name = field.value.trim();
    if (name) this.settings.choose(what, name);
    field.value = this.settings[what]();
  }

  protected focusMain(): void {
    this.main().nativeElement.focus();
  }
}
