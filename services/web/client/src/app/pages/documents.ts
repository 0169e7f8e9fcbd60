/** Looks after the stored documents: collections, filter, create, edit, delete. */
import {
  Component,
  type ElementRef,
  computed,
  effect,
  inject,
  signal,
  untracked,
  viewChild,
} from '@angular/core';
import { Calls } from '../calls';
import { Collections } from '../collections';
import { type Key } from '../dictionary';
import { toFilter } from '../filter';
import { Found } from '../found';
import { DocumentList } from '../parts/document-list';
import { Editor } from '../parts/editor';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Speech } from '../speech';
import { shown, type StoredDocument } from '../stored';

@Component({
  imports: [DocumentList, Editor, ProblemNote],
  providers: [Found],
  template: `
    <div class="heading">
      <div>
        <h1>{{ say('nav.documents') }}</h1>
        <p class="lead">{{ say('documents.lead', { collection: settings.collection() }) }}</p>
      </div>
      <button type="button" class="primary" name="new" (click)="editor().create()">
        {{ say('list.new') }}
      </button>
    </div>

    <div class="chips" role="group" [attr.aria-label]="say('documents.collections')">
      @for (name of collections.names(); track name) {
        <button
          type="button"
          [attr.aria-pressed]="name === settings.collection()"
          (click)="settings.collection.set(name)"
        >
          {{ name }}
        </button>
      }
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
      <p id="filter-hint" class="quiet" [class.wrong]="wrong()">
        {{ wrong() ? say('list.notjson') : say('list.hint', { example: example }) }}
      </p>
    </form>

    <section aria-labelledby="stored">
      <div class="heading">
        <h2 id="stored">{{ say('list.title') }}</h2>
        <p class="quiet" role="status" data-count>{{ count() }}</p>
      </div>
      @if (notice(); as key) {
        <p class="notice" role="status">{{ say(key) }}</p>
      }
      @if (found.problem(); as failure) {
        <app-problem [problem]="failure" [retryable]="true" (retry)="found.again()" />
        @if (failure.passing) {
          <p class="quiet">{{ say('list.retrying') }}</p>
        }
      }
      @if (found.documents().length > 0) {
        <app-document-list
          [documents]="found.documents()"
          [label]="say('list.title')"
          [busy]="found.busy()"
          (opened)="editor().open($event)"
          (doomed)="askDelete($event)"
        />
        @if (found.more()) {
          <div class="actions end">
            <button type="button" name="more" (click)="found.next()">{{ say('list.more') }}</button>
          </div>
        }
      } @else if (!found.busy() && !found.problem()) {
        <p class="empty">{{ say(filter() ? 'list.nomatch' : 'list.empty') }}</p>
      }
    </section>

    <app-editor (created)="created($event)" (saved)="saved($event)" />

    <dialog #confirm aria-labelledby="delete-title" (close)="doomed.set(null)">
      <form class="stack" (submit)="$event.preventDefault(); remove()">
        <h2 id="delete-title">{{ say('delete.title') }}</h2>
        @if (doomed(); as document) {
          <p class="excerpt">{{ shown(document).text }}</p>
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
  private readonly calls = inject(Calls);
  protected readonly collections = inject(Collections);
  protected readonly found = inject(Found);
  protected readonly settings = inject(Settings);
  protected readonly say = inject(Speech).say;
  private readonly number = inject(Speech).number;
  protected readonly shown = shown;
  protected readonly editor = viewChild.required(Editor);
  private readonly confirm = viewChild.required<ElementRef<HTMLDialogElement>>('confirm');

  protected readonly example = '{"confidence": {"$lt": 0.5}}';
  protected readonly typed = signal('');
  protected readonly filter = signal('');
  protected readonly wrong = signal(false);
  protected readonly notice = signal<Key | null>(null);
  protected readonly doomed = signal<StoredDocument | null>(null);
  protected readonly deleting = signal(false);
  protected readonly deleteProblem = signal<Problem | null>(null);

  protected readonly count = computed(() => {
    const loaded = this.number(this.found.documents().length);
    if (this.found.busy()) return this.say('list.loading', { count: loaded });
    return this.say(this.found.more() ? 'list.first' : 'list.count', { count: loaded });
  });

  constructor() {
    void this.collections.refresh();
    effect(() => {
      const [collection, filter] = [this.settings.collection(), this.filter()];
      untracked(() => {
        this.notice.set(null);
        this.found.ask(collection, filter);
      });
    });
  }

  protected apply(): void {
    const filter = toFilter(this.typed());
    this.wrong.set(filter === null);
    if (filter === null) return;
    if (filter === this.filter()) this.found.again();
    this.filter.set(filter);
  }

  protected created(document: StoredDocument): void {
    this.found.documents.update((all) => [document, ...all]);
    this.notice.set('editor.created');
    void this.collections.refresh();
  }

  protected saved(document: StoredDocument): void {
    this.found.documents.update((all) =>
      all.map((other) => (other.id === document.id ? document : other)),
    );
    this.notice.set('editor.saved');
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
      const collection = this.settings.collection();
      await this.calls.documents.delete({ collection, id: document.id });
      this.confirm().nativeElement.close();
      this.found.documents.update((all) => all.filter(({ id }) => id !== document.id));
      this.notice.set('delete.done');
    } catch (error) {
      this.deleteProblem.set(Problem.of(error));
    } finally {
      this.deleting.set(false);
    }
  }
}
