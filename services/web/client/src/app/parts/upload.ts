/** Stores the documents of a file, with progress; names each line that is not stored, and the reason. */
import { Component, DestroyRef, computed, inject, output, signal } from '@angular/core';
import { Code } from '@connectrpc/connect';
import { batches } from '../batches';
import { Calls } from '../calls';
import { formatOf, read, type Line } from '../exchange';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';
import { ProblemNote } from './problem';

/** The most documents of a call: the server describes so many failures. */
const BATCH = 100;
/** The most lines that are shown; the number of all is shown too. */
const SHOWN = 1000;

type Good = Extract<Line, { data: string }>;

@Component({
  selector: 'app-upload',
  imports: [ProblemNote],
  template: `
    <label class="file">
      <input
        type="file"
        name="upload"
        accept=".jsonl,.ndjson,.csv"
        [disabled]="busy()"
        (change)="choose($event)"
      />
      <span class="button">{{ t('upload.choose') }}</span>
      <span class="quiet">{{ t('upload.hint') }}</span>
    </label>
    @if (busy()) {
      <label for="upload-progress">{{ progress() }}</label>
      <progress id="upload-progress" [max]="total()" [value]="sent()"></progress>
      <div class="actions">
        <button type="button" name="stop-upload" (click)="stop.abort()">
          {{ t('learn.stop') }}
        </button>
      </div>
    }
    <div class="outcome" role="status">
      @if (ended()) {
        <p class="notice" data-uploaded>{{ t('upload.stored', { count: number(stored()) }) }}</p>
        @if (stopped(); as line) {
          <p class="wrong">{{ t('upload.stopped', { line }) }}</p>
        }
      }
      @if (bad().length) {
        <p class="wrong">{{ t('upload.bad', { count: number(bad().length) }) }}</p>
        <ul class="lines">
          @for (each of bad().slice(0, shown); track each.line) {
            <li>{{ t('upload.line', { line: each.line, reason: each.reason }) }}</li>
          }
        </ul>
      }
    </div>
    @if (problem(); as failure) {
      <app-problem [problem]="failure" />
    }
  `,
})
export class Upload {
  readonly uploaded = output();
  private readonly business = inject(Calls).business;
  private readonly settings = inject(Settings);
  private readonly translator = inject(Translator);
  protected readonly t = this.translator.t;
  protected readonly number = this.translator.number;
  protected readonly shown = SHOWN;
  protected readonly busy = signal(false);
  protected readonly ended = signal(false);
  protected readonly total = signal(0);
  protected readonly sent = signal(0);
  protected readonly stored = signal(0);
  /** The line at which the upload stopped before its end. */
  protected readonly stopped = signal<number | null>(null);
  protected readonly bad = signal<readonly { line: number; reason: string }[]>([]);
  protected readonly problem = signal<Problem | null>(null);
  protected stop = new AbortController();

  protected readonly progress = computed(() =>
    this.t('upload.progress', { sent: this.number(this.sent()), total: this.number(this.total()) }),
  );

  constructor() {
    inject(DestroyRef).onDestroy(() => this.stop.abort());
  }

  protected async choose(event: Event): Promise<void> {
    const field = event.target as HTMLInputElement;
    const file = field.files?.[0];
    if (!file || this.busy()) return;
    const collection = this.settings.collection();
    this.stop = new AbortController();
    this.start();
    try {
      const lines = read(formatOf(file.name), await file.text());
      const good = lines.filter((line) => 'data' in line);
      this.total.set(good.length);
      this.bad.set(
        lines.flatMap((line) =>
          'fault' in line ? [{ line: line.line, reason: this.t(`upload.${line.fault}`) }] : [],
        ),
      );
      for (const batch of batches(good, ({ data }) => data.length, BATCH)) {
        // Cleared only at the end: a failure leaves the line at which it happened.
        this.stopped.set(batch[0]?.line ?? null);
        if (this.stop.signal.aborted) return;
        await this.store(collection, batch);
      }
      this.stopped.set(null);
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
      this.ended.set(true);
      // The same file can be chosen again after it changed on disk.
      field.value = '';
      this.uploaded.emit();
    }
  }

  private start(): void {
    this.busy.set(true);
    this.ended.set(false);
    for (const count of [this.total, this.sent, this.stored]) count.set(0);
    this.stopped.set(null);
    this.bad.set([]);
    this.problem.set(null);
  }

  /** Stores documents in one call. Stops the upload at a failure that is not about a document. */
  private async store(collection: string, batch: readonly Good[]): Promise<void> {
    try {
      const documents = batch.map(({ data }) => data);
      const result = await this.business.uploadBatch({ collection, documents });
      this.stored.update((stored) => stored + Number(result.stored));
      for (const { reference, failure } of result.failures) {
        this.refuse(batch[Number(reference)], failure?.message ?? '');
        if (failure?.code !== Code.InvalidArgument) this.stop.abort();
      }
    } catch (error) {
      const problem = Problem.of(error);
      // One document may be larger than a call.
      if (batch.length > 1 || problem.code !== Code.InvalidArgument) throw problem;
      this.refuse(batch[0], problem.detail);
    }
    this.sent.update((sent) => sent + batch.length);
  }

  private refuse(line: Good | undefined, reason: string): void {
    if (!line) return;
    this.bad.update((bad) => [...bad, { line: line.line, reason }].sort((a, b) => a.line - b.line));
  }
}
