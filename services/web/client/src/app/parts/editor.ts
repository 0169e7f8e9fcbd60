/** A dialog that creates a document, or shows and replaces a stored one: its text, exactly as it is stored. */
import {
  afterRenderEffect,
  Component,
  type ElementRef,
  inject,
  output,
  signal,
  viewChild,
} from '@angular/core';
import { Calls } from '../calls';
import { indent, parseObject } from '../json-text';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';
import type { StoredDocument } from '../stored';
import { ProblemNote } from './problem';

@Component({
  selector: 'app-editor',
  imports: [ProblemNote],
  template: `
    <dialog
      #dialog
      aria-labelledby="editor-title"
      (keydown.escape)="$event.preventDefault(); leave()"
      (cancel)="$event.preventDefault(); leave()"
      (close)="afterClose()"
    >
      <form class="stack" (submit)="$event.preventDefault(); save()">
        <h2 id="editor-title">{{ t(id() === null ? 'editor.new' : 'editor.edit') }}</h2>
        @if (id(); as shown) {
          <code class="quiet">{{ shown }}</code>
        }
        <label class="field">
          <span>{{ t(loading() ? 'editor.loading' : 'editor.json') }}</span>
          <textarea
            name="json"
            rows="12"
            spellcheck="false"
            class="code"
            [readOnly]="loading()"
            [attr.aria-invalid]="!valid()"
            [value]="json()"
            (input)="edit($any($event.target).value)"
          ></textarea>
        </label>
        <p class="wrong" role="status">{{ valid() ? '' : t('list.notjson') }}</p>
        @if (problem(); as failure) {
          <app-problem [problem]="failure" />
        }
        @if (leaving()) {
          <div class="notice actions" role="alert">
            <span>{{ t('editor.unsaved') }}</span>
            <button type="button" name="discard" class="danger" (click)="close()">
              {{ t('editor.discard') }}
            </button>
            <button type="button" name="keep" (click)="leaving.set(false)">
              {{ t('editor.keep') }}
            </button>
          </div>
        }
        <div class="actions end">
          <button
            type="button"
            name="indent"
            [disabled]="loading() || !valid()"
            (click)="edit(indent(json()))"
          >
            {{ t('editor.indent') }}
          </button>
          <button type="button" name="cancel" (click)="leave()">{{ t('editor.cancel') }}</button>
          <button class="primary" type="submit" name="save" [disabled]="loading() || !valid()">
            {{ t('editor.save') }}
          </button>
        </div>
      </form>
    </dialog>
  `,
})
export class Editor {
  readonly created = output<StoredDocument>();
  readonly saved = output<StoredDocument>();
  readonly closed = output();
  private readonly documents = inject(Calls).documents;
  private readonly settings = inject(Settings);
  private readonly dialog = viewChild.required<ElementRef<HTMLDialogElement>>('dialog');
  protected readonly t = inject(Translator).t;
  protected readonly indent = indent;
  protected readonly shown = signal(false);
  protected readonly id = signal<string | null>(null);
  protected readonly json = signal('');
  protected readonly valid = signal(true);
  protected readonly loading = signal(false);
  protected readonly problem = signal<Problem | null>(null);
  /** Whether the user is asked about edits that would be lost. */
  protected readonly leaving = signal(false);
  /** The text before any edit. */
  private original = '';

  constructor() {
    // After the text is rendered: what a user types at once goes into the new text.
    afterRenderEffect(() => {
      const dialog = this.dialog().nativeElement;
      if (!this.shown()) dialog.close();
      else if (!dialog.open) dialog.showModal();
    });
  }

  create(): void {
    this.show(null, '{\n  "text": "",\n  "label": ""\n}');
  }

  /** Opens the current version of a stored document, which may be newer than the list. */
  async open(id: string): Promise<void> {
    this.show(id, '');
    await this.attempt(async () => {
      const { data } = await this.documents.read({ collection: this.settings.collection(), id });
      if (this.id() === id) this.json.set((this.original = data));
    });
  }

  protected edit(text: string): void {
    this.leaving.set(false);
    this.json.set(text);
    this.valid.set(parseObject(text) !== null);
  }

  protected save(): Promise<void> {
    const [collection, id, data] = [this.settings.collection(), this.id(), this.json()];
    if (!parseObject(data)) return Promise.resolve();
    return this.attempt(async () => {
      if (id === null) {
        const made = await this.documents.create({ collection, data });
        this.created.emit({ id: made.id, data });
      } else {
        await this.documents.update({ collection, id, data });
        this.saved.emit({ id, data });
      }
      this.close();
    });
  }

  /** Closes the dialog, but asks first if there are edits. Without an answer, the edits stay. */
  protected leave(): void {
    if (this.mayClose()) this.close();
  }

  /** Whether no edits would be lost; otherwise asks about them. */
  mayClose(): boolean {
    const edited = this.shown() && this.json() !== this.original;
    this.leaving.set(edited);
    return !edited;
  }

  close(): void {
    this.shown.set(false);
  }

  /** Comes some time after the dialog was closed; it may be open again. */
  protected afterClose(): void {
    if (this.dialog().nativeElement.open) return;
    this.shown.set(false);
    this.problem.set(null);
    this.closed.emit();
  }

  private show(id: string | null, json: string): void {
    this.id.set(id);
    this.json.set((this.original = json));
    this.valid.set(true);
    this.leaving.set(false);
    this.problem.set(null);
    this.shown.set(true);
  }

  private async attempt(step: () => Promise<void>): Promise<void> {
    this.loading.set(true);
    this.problem.set(null);
    try {
      await step();
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      this.loading.set(false);
    }
  }
}
