/** Lists, filters, creates, edits and deletes stored documents. */
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
import { QueryResults } from '../query-results';
import { DocumentList } from '../parts/document-list';
import { Editor } from '../parts/editor';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';
import { preview, type StoredDocument } from '../stored';

@Component({
  imports: [DocumentList, Editor, ProblemNote],
  providers: [QueryResults],
  template: `
    <div class="heading">
      <div>
        <h1>{{ t('nav.documents') }}</h1>
        <p class="lead">{{ t('documents.lead', { collection: settings.collection() }) }}</p>
      </div>
      <button type="button" class="primary" name="new" (click)="editor().create()">
        {{ t('list.new') }}
      </button>
    </div>

    <div class="chips" role="group" [attr.aria-label]="t('documents.collections')">
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
        <span>{{ t('list.filter') }}</span>
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
      <button type="submit" name="apply">{{ t('list.apply') }}</button>
      @if (filter()) {
        <button type="button" name="clear" (click)="typed.set(''); apply()">
          {{ t('list.clear') }}
        </button>
      }
      <p id="filter-hint" class="quiet" [class.wrong]="wrong()">
        {{ wrong() ? t('list.notjson') : t('list.hint', { example: example }) }}
      </p>
    </form>

    <section aria-labelledby="stored">
      <div class="heading">
        <h2 id="stored">{{ t('list.title') }}</h2>
        <p class="quiet" role="status" data-count>{{ count() }}</p>
      </div>
      @if (notice(); as key) {
        <p class="notice" role="status">{{ t(key) }}</p>
      }
      @if (results.problem(); as failure) {
        <app-problem
          [problem]="failure"
          [retryable]="failure.transient"
          (retry)="results.reload()"
        />
        @if (failure.transient) {
          <p class="quiet">{{ t('list.retrying') }}</p>
        }
      }
      @if (results.documents().length > 0) {
        <app-document-list
          [documents]="results.documents()"
          [label]="t('list.title')"
          [busy]="results.busy()"
          (opened)="editor().open($event)"
          (deleted)="askDelete($event)"
        />
        @if (results.more()) {
          <div class="actions end">
            <button type="button" name="more" (click)="results.loadMore()">
              {{ t('list.more') }}
            </button>
          </div>
        }
      } @else if (!results.busy() && !results.problem()) {
        <p class="empty">
          {{ t(filter() ? 'list.nomatch' : 'list.empty') }}
          @if (!filter()) {
            <button type="button" name="first" (click)="editor().create()">
              {{ t('list.new') }}
            </button>
          }
        </p>
      }
    </section>

    <app-editor (created)="created($event)" (saved)="saved($event)" />

    <dialog #confirm aria-labelledby="delete-title" (close)="toDelete.set(null)">
      <form class="stack" (submit)="$event.preventDefault(); remove()">
        <h2 id="delete-title">{{ t('delete.title') }}</h2>
        @if (toDelete(); as document) {
          <p class="excerpt">{{ preview(document).text }}</p>
        }
        <p>{{ t('delete.body', { collection: settings.collection() }) }}</p>
        @if (deleteProblem(); as failure) {
          <app-problem [problem]="failure" />
        }
        <div class="actions end">
          <button type="button" (click)="confirm.close()">{{ t('editor.cancel') }}</button>
          <button class="danger" type="submit" name="confirm-delete" [disabled]="deleting()">
            {{ t('delete.confirm') }}
          </button>
        </div>
      </form>
    </dialog>
  `,
})
export class DocumentsPage {
  private readonly calls = inject(Calls);
  protected readonly collections = inject(Collections);
  protected readonly results = inject(QueryResults);
  protected readonly settings = inject(Settings);
  protected readonly t = inject(Translator).t;
  private readonly number = inject(Translator).number;
  protected readonly preview = preview;
  protected readonly editor = viewChild.required(Editor);
  private readonly confirm = viewChild.required<ElementRef<HTMLDialogElement>>('confirm');

  protected readonly example = '{"confidence": {"$lt": 0.5}}';
  protected readonly typed = signal('');
  protected readonly filter = signal('');
  protected readonly wrong = signal(false);
  protected readonly notice = signal<Key | null>(null);
  protected readonly toDelete = signal<StoredDocument | null>(null);
  protected readonly deleting = signal(false);
  protected readonly deleteProblem = signal<Problem | null>(null);

  protected readonly count = computed(() => {
    const loaded = this.number(this.results.documents().length);
    if (this.results.busy()) return this.t('list.loading', { count: loaded });
    return this.t(this.results.more() ? 'list.first' : 'list.count', { count: loaded });
  });

  constructor() {
    void this.collections.refresh();
    effect(() => {
      const [collection, filter] = [this.settings.collection(), this.filter()];
      untracked(() => {
        this.notice.set(null);
        this.results.run(collection, filter);
      });
    });
  }

  protected apply(): void {
    const filter = toFilter(this.typed());
    this.wrong.set(filter === null);
    if (filter === null) return;
    if (filter === this.filter()) this.results.reload();
    this.filter.set(filter);
  }

  protected created(document: StoredDocument): void {
    this.results.add(document);
    this.notice.set('editor.created');
    void this.collections.refresh();
  }

  protected saved(document: StoredDocument): void {
    this.results.replace(document);
    this.notice.set('editor.saved');
  }

  protected askDelete(document: StoredDocument): void {
    this.toDelete.set(document);
    this.deleteProblem.set(null);
    this.confirm().nativeElement.showModal();
  }

  protected async remove(): Promise<void> {
    const document = this.toDelete();
    if (!document || this.deleting()) return;
    this.deleting.set(true);
    this.deleteProblem.set(null);
    try {
      const collection = this.settings.collection();
      await this.calls.documents.delete({ collection, id: document.id });
      this.confirm().nativeElement.close();
      this.results.remove(document.id);
      this.notice.set('delete.done');
    } catch (error) {
      this.deleteProblem.set(Problem.of(error));
    } finally {
      this.deleting.set(false);
    }
  }
}
