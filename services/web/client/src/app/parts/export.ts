/** Saves all documents of a query as a file, also those that the list has not loaded. */
import { Component, DestroyRef, inject, input, signal } from '@angular/core';
import { Calls, NO_DEADLINE } from '../calls';
import { write, type Format } from '../exchange';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';
import { ProblemNote } from './problem';

/** Between two updates of the number of documents. */
const FRAME = 100;

@Component({
  selector: 'app-export',
  imports: [ProblemNote],
  template: `
    <div class="actions">
      @if (busy()) {
        <span class="quiet" role="status">
          {{ translator.t('export.progress', { count: translator.number(count()) }) }}
        </span>
        <button type="button" name="stop-export" (click)="stop.abort()">
          {{ translator.t('learn.stop') }}
        </button>
      } @else {
        <button type="button" name="export-jsonl" (click)="save('jsonl')">
          {{ translator.t('export.jsonl') }}
        </button>
        <button type="button" name="export-csv" (click)="save('csv')">
          {{ translator.t('export.csv') }}
        </button>
      }
    </div>
    @if (problem(); as failure) {
      <app-problem [problem]="failure" />
    }
  `,
})
export class Export {
  readonly query = input.required<string>();
  private readonly documents = inject(Calls).documents;
  private readonly settings = inject(Settings);
  protected readonly translator = inject(Translator);
  protected readonly busy = signal(false);
  protected readonly count = signal(0);
  protected readonly problem = signal<Problem | null>(null);
  protected stop = new AbortController();

  constructor() {
    inject(DestroyRef).onDestroy(() => this.stop.abort());
  }

  protected async save(format: Format): Promise<void> {
    const [collection, query] = [this.settings.collection(), this.query()];
    const { signal } = (this.stop = new AbortController());
    this.busy.set(true);
    this.count.set(0);
    this.problem.set(null);
    try {
      const texts: string[] = [];
      let shown = performance.now();
      const options = { signal, timeoutMs: NO_DEADLINE };
      for await (const { data } of this.documents.query({ collection, query }, options)) {
        texts.push(data);
        if (performance.now() - shown < FRAME) continue;
        this.count.set(texts.length);
        await new Promise((resolve) => setTimeout(resolve));
        shown = performance.now();
      }
      if (!signal.aborted) download(write(format, texts), `${collection}.${format}`);
    } catch (error) {
      if (!signal.aborted) this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
    }
  }
}

function download(lines: string[], name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(lines));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
