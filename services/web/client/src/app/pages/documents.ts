/**
 * Lists, filters, creates, edits and deletes stored documents. The address has the filter, the order and the open
 * document, which change only by navigation.
 */
import {
  Component,
  type ElementRef,
  computed,
  effect,
  inject,
  linkedSignal,
  signal,
  untracked,
  viewChild,
} from '@angular/core';
import { toSignal } from '@angular/core/rxjs-interop';
import { ActivatedRoute, Router } from '@angular/router';
import { Calls } from '../calls';
import { Collections } from '../collections';
import { type Key } from '../dictionary';
import { isSorted, NEWEST, OLDEST, orders, sorted, toFilter, type Order } from '../filter';
import { QueryResults } from '../query-results';
import { DocumentList } from '../parts/document-list';
import { Editor } from '../parts/editor';
import { Export } from '../parts/export';
import { ProblemNote } from '../parts/problem';
import { Upload } from '../parts/upload';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';
import { preview, type StoredDocument } from '../stored';

/** The number of documents whose fields can be sorted by. */
const SAMPLED = 50;

@Component({
  imports: [DocumentList, Editor, Export, ProblemNote, Upload],
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
          (click)="settings.choose('collection', name)"
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
      <label class="field order">
        <span>{{ t('list.order') }}</span>
        <select
          name="order"
          [disabled]="ordered()"
          (change)="go({ order: $any($event.target).value })"
        >
          @for (choice of orders(); track choice) {
            <option [value]="choice" [selected]="choice === order()">
              {{ orderName(choice) }}
            </option>
          }
        </select>
      </label>
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
          (opened)="go({ document: $event })"
          (deleted)="askDelete($event)"
        />
        <app-export [query]="query()" />
        @if (results.more()) {
          <div class="actions end">
            <button type="button" name="more" (click)="results.loadMore()">
              {{ t('list.more') }}
            </button>
          </div>
        }
      } @else if (!results.busy() && !results.problem() && !wrong()) {
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

    <section class="card stack" aria-labelledby="upload">
      <h2 id="upload">{{ t('upload.title', { collection: settings.collection() }) }}</h2>
      <app-upload (uploaded)="uploaded()" />
    </section>

    <app-editor (created)="created($event)" (saved)="saved($event)" (closed)="closed()" />

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
  private readonly route = inject(ActivatedRoute);
  private readonly router = inject(Router);
  protected readonly collections = inject(Collections);
  protected readonly results = inject(QueryResults);
  protected readonly settings = inject(Settings);
  protected readonly t = inject(Translator).t;
  private readonly number = inject(Translator).number;
  protected readonly preview = preview;
  protected readonly editor = viewChild.required(Editor);
  private readonly confirm = viewChild.required<ElementRef<HTMLDialogElement>>('confirm');

  protected readonly example = '{"confidence": {"$lt": 0.5}}';
  private readonly address = toSignal(this.route.queryParamMap, { requireSync: true });
  private readonly wanted = computed(() => this.address().get('filter') ?? '');
  private readonly document = computed(() => this.address().get('document'));
  protected readonly filter = computed(() => toFilter(this.wanted()));
  protected readonly order = computed(() => this.address().get('order') ?? NEWEST);
  /** Whether the filter has an order of its own. */
  protected readonly ordered = computed(() => isSorted(this.filter() ?? ''));
  /** For all documents that match. */
  protected readonly query = computed(() => sorted(this.filter() ?? '', this.order()));
  protected readonly orders = computed(() => {
    const texts = this.results.documents().slice(0, SAMPLED);
    return orders(
      texts.map(({ data }) => data),
      this.order(),
    );
  });
  protected readonly typed = linkedSignal(this.wanted);
  protected readonly wrong = linkedSignal(() => this.filter() === null);
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
      const order = this.order();
      untracked(() => {
        this.notice.set(null);
        if (filter === null) this.results.clear();
        else this.results.run(collection, filter, order);
      });
    });
    effect(() => {
      const document = this.document();
      untracked(() => (document ? void this.editor().open(document) : this.editor().close()));
    });
  }

  /** Whether the page, or the open document, can be left without losing edits; otherwise asks about them. */
  mayLeave(): boolean {
    return this.editor().mayClose();
  }

  protected orderName(order: Order): string {
    if (order === NEWEST) return this.t('list.newest');
    if (order === OLDEST) return this.t('list.oldest');
    const descending = order.startsWith('-');
    const field = descending ? order.slice(1) : order;
    return this.t(descending ? 'list.descending' : 'list.ascending', { field });
  }

  protected go(queryParams: Partial<Record<'filter' | 'order' | 'document', string | null>>): void {
    void this.router.navigate([], { queryParams, queryParamsHandling: 'merge' });
  }

  protected closed(): void {
    if (this.document()) this.go({ document: null });
  }

  protected apply(): void {
    const filter = this.typed().trim();
    this.wrong.set(toFilter(filter) === null);
    if (this.wrong()) return;
    if (filter === this.wanted()) this.results.reload();
    else this.go({ filter: filter || null });
  }

  protected created(document: StoredDocument): void {
    this.results.add(document);
    this.notice.set('editor.created');
    void this.collections.refresh();
  }

  protected uploaded(): void {
    this.results.reload();
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
