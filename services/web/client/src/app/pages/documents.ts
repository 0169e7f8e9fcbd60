/** Classifies texts and looks after the stored documents, page by page. */
import {
  Component,
  type ElementRef,
  computed,
  effect,
  inject,
  linkedSignal,
  resource,
  signal,
  viewChild,
} from '@angular/core';
import { Api, Problem, type StoredDocument } from '../api';
import { toFilter } from '../filter';
import { type Key } from '../dictionary';
import { Classify } from '../parts/classify';
import { Editor } from '../parts/editor';
import { ProblemNote } from '../parts/problem';
import { Settings } from '../settings';
import { Speech } from '../speech';

const PAGE = 20;
const FIRST_RETRY = 2_000;
const LONGEST_RETRY = 15_000;

@Component({
  imports: [Classify, Editor, ProblemNote],
  template: `
    <h1>{{ say('nav.documents') }}</h1>
    <p class="lead">{{ say('documents.lead', { collection: settings.collection() }) }}</p>

    <app-classify (stored)="skip.set(0); page.reload()" />

    <section aria-labelledby="stored">
      <div class="heading">
        <h2 id="stored">{{ say('list.title') }}</h2>
        <button type="button" name="new" (click)="editor().create()">{{ say('list.new') }}</button>
      </div>

      <form class="filter" role="search" (submit)="$event.preventDefault(); apply()">
        <label class="field">
          <span>{{ say('list.filter') }}</span>
          <input
            name="filter"
            autocomplete="off"
            spellcheck="false"
            aria-describedby="filter-hint"
            [attr.aria-invalid]="wrong()"
            [value]="typed()"
            (input)="typed.set($any($event.target).value)"
          />
        </label>
        <button type="submit" name="apply">{{ say('list.apply') }}</button>
        @if (filter()) {
          <button type="button" name="clear" (click)="typed.set(''); apply()">
            {{ say('list.clear') }}
          </button>
        }
        <p id="filter-hint" class="quiet" [class.wrong]="wrong()" role="status">
          {{ wrong() ? say('list.notjson') : say('list.hint', { example: '{"label":"tech"}' }) }}
        </p>
      </form>

      <p class="notice" role="status">{{ notice() ? say(notice()!) : '' }}</p>

      @if (problem(); as failure) {
        <app-problem [problem]="failure" [retryable]="true" (retry)="page.reload()" />
        @if (failure.passing) {
          <p class="quiet">{{ say('list.retrying') }}</p>
        }
      } @else if (!page.hasValue()) {
        <p class="empty" role="status">{{ say('list.loading') }}</p>
      } @else if (documents().length === 0) {
        <p class="empty">{{ say(filter() ? 'list.nomatch' : 'list.empty') }}</p>
      } @else {
        <ul class="documents card" [attr.aria-busy]="page.isLoading()">
          @for (document of documents(); track document.id) {
            <li>
              <button type="button" class="row" (click)="editor().open(document.id)">
                <span class="text">{{ text(document) }}</span>
                <span class="facts">
                  @if (field(document, 'label'); as label) {
                    <span class="label">{{ label }}</span>
                  }
                  @if (confidence(document); as share) {
                    <span class="quiet">{{ share }}</span>
                  }
                </span>
              </button>
              <button
                type="button"
                class="icon"
                [attr.aria-label]="say('list.delete', { id: document.id })"
                (click)="askDelete(document)"
              >
                <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
                  <path
                    d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6"
                    fill="none"
                    stroke="currentColor"
                    stroke-width="1.5"
                    stroke-linecap="round"
                    stroke-linejoin="round"
                  />
                </svg>
              </button>
            </li>
          }
        </ul>
        @if (skip() > 0 || more()) {
          <nav class="pager" [attr.aria-label]="say('list.pages')">
            <button type="button" [disabled]="skip() === 0" (click)="turn(-1)">
              {{ say('list.previous') }}
            </button>
            <span>{{
              say('list.range', { from: skip() + 1, to: skip() + documents().length })
            }}</span>
            <button type="button" [disabled]="!more()" (click)="turn(1)">
              {{ say('list.next') }}
            </button>
          </nav>
        }
      }
    </section>

    <app-editor (saved)="changed($event === 'created' ? 'editor.created' : 'editor.saved')" />

    <dialog #confirm aria-labelledby="delete-title" (close)="doomed.set(null)">
      <form class="stack" (submit)="$event.preventDefault(); remove()">
        <h2 id="delete-title">{{ say('delete.title') }}</h2>
        @if (doomed(); as document) {
          <p class="excerpt">{{ text(document) }}</p>
        }
        <p>{{ say('delete.body', { collection: settings.collection() }) }}</p>
        @if (deleteProblem(); as failure) {
          <app-problem [problem]="failure" />
        }
        <div class="actions end">
          <button type="button" (click)="confirm.close()">{{ say('editor.cancel') }}</button>
          <button class="danger" type="submit" name="confirm-delete" [disabled]="deleting()">
            {{ say('delete.confirm') }}
          </button>
        </div>
      </form>
    </dialog>
  `,
})
export class DocumentsPage {
  private readonly api = inject(Api);
  protected readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly editor = viewChild.required(Editor);
  private readonly confirm = viewChild.required<ElementRef<HTMLDialogElement>>('confirm');

  protected readonly typed = signal('');
  protected readonly filter = signal('');
  protected readonly wrong = signal(false);
  protected readonly skip = linkedSignal({
    source: () => [this.settings.collection(), this.filter()],
    computation: () => 0,
  });
  protected readonly notice = signal<Key | null>(null);
  protected readonly doomed = signal<StoredDocument | null>(null);
  protected readonly deleting = signal(false);
  protected readonly deleteProblem = signal<Problem | null>(null);

  /** One document more than is shown, to know whether a next page exists. */
  protected readonly page = resource({
    params: () => ({
      collection: this.settings.collection(),
      filter: this.filter(),
      skip: this.skip(),
    }),
    loader: ({ params, abortSignal }) =>
      this.api.list(params.collection, params.filter, PAGE + 1, params.skip, abortSignal),
  });
  private readonly loaded = computed(() => (this.page.hasValue() ? this.page.value() : []));
  protected readonly documents = computed(() => this.loaded().slice(0, PAGE));
  protected readonly more = computed(() => this.loaded().length > PAGE);
  protected readonly problem = computed(() => {
    const error = this.page.error();
    return error ? Problem.of(error) : null;
  });

  constructor() {
    let delay = FIRST_RETRY;
    effect((onCleanup) => {
      if (this.page.hasValue()) delay = FIRST_RETRY;
      if (!this.problem()?.passing) return;
      const timer = setTimeout(() => this.page.reload(), delay);
      delay = Math.min(delay * 2, LONGEST_RETRY);
      onCleanup(() => clearTimeout(timer));
    });
  }

  protected field(document: StoredDocument, name: string): string {
    const value = document.data[name];
    return typeof value === 'string' ? value : '';
  }

  protected text(document: StoredDocument): string {
    return this.field(document, 'text') || JSON.stringify(document.data);
  }

  protected confidence(document: StoredDocument): string {
    const share = document.data['confidence'];
    return typeof share === 'number' ? this.speech.percent(share) : '';
  }

  protected apply(): void {
    const filter = toFilter(this.typed());
    this.wrong.set(filter === null);
    if (filter !== null) this.filter.set(filter);
  }

  protected turn(pages: number): void {
    this.skip.update((skip) => Math.max(0, skip + pages * PAGE));
  }

  protected changed(notice: Key): void {
    this.notice.set(notice);
    this.page.reload();
  }

  protected askDelete(document: StoredDocument): void {
    this.doomed.set(document);
    this.deleteProblem.set(null);
    this.confirm().nativeElement.showModal();
  }

  protected async remove(): Promise<void> {
    const document = this.doomed();
    if (!document || this.deleting()) return;
    this.deleting.set(true);
    this.deleteProblem.set(null);
    try {
      await this.api.remove(this.settings.collection(), document.id);
      this.confirm().nativeElement.close();
      if (this.documents().length === 1) this.turn(-1);
      this.changed('delete.done');
    } catch (error) {
      this.deleteProblem.set(Problem.of(error));
    } finally {
      this.deleting.set(false);
    }
  }
}
