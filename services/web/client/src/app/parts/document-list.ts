/**
 * A list of any length: the page contains only the visible rows and the focused one.
 *
 * The Tab key stops once at the list; the arrow keys, Page Up and Down, Home and End move in it. (The component kit's
 * virtual scrolling adds inline styles, which the content security policy forbids.)
 */
import {
  Component,
  type ElementRef,
  Injector,
  afterNextRender,
  computed,
  inject,
  input,
  linkedSignal,
  output,
  signal,
  viewChild,
} from '@angular/core';
import { Translator } from '../translator';
import { preview, type StoredDocument } from '../stored';

/** A row's height in rem, as in the style sheet. */
const ROW = 4;
/** Extra rows above and below, so that quick scrolling shows no gap. */
const BEYOND = 8;

@Component({
  selector: 'app-document-list',
  template: `
    <div
      #scroller
      class="scroller card"
      (scroll)="top.set(scroller.scrollTop)"
      (keydown)="move($event)"
    >
      <ul
        class="documents"
        [attr.aria-label]="label()"
        [attr.aria-busy]="busy()"
        [style.height.rem]="documents().length * row"
      >
        @for (index of indices(); track documents()[index]!.id) {
          @let document = documents()[index]!;
          @let view = preview(document);
          <li
            [style.top.rem]="index * row"
            [attr.aria-setsize]="documents().length"
            [attr.aria-posinset]="index + 1"
            (focusin)="active.set(index)"
          >
            <button
              type="button"
              class="row"
              [attr.data-index]="index"
              [attr.tabindex]="index === active() ? 0 : -1"
              (click)="opened.emit(document.id)"
            >
              <span class="text">{{ view.text }}</span>
              <span class="facts">
                @if (view.label) {
                  <span class="label">{{ view.label }}</span>
                }
                @if (view.confidence !== undefined) {
                  <span class="quiet">{{ translator.percent(view.confidence) }}</span>
                }
              </span>
            </button>
            <button
              type="button"
              class="icon"
              [attr.tabindex]="index === active() ? 0 : -1"
              [attr.aria-label]="translator.t('list.delete', { text: view.text })"
              (click)="deleted.emit(document)"
            >
              <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
                <path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6" />
              </svg>
            </button>
          </li>
        }
      </ul>
    </div>
  `,
})
export class DocumentList {
  readonly documents = input.required<readonly StoredDocument[]>();
  readonly label = input.required<string>();
  readonly busy = input(false);
  readonly opened = output<string>();
  readonly deleted = output<StoredDocument>();
  protected readonly translator = inject(Translator);
  protected readonly preview = preview;
  protected readonly row = ROW;
  protected readonly top = signal(0);
  /** The focused row. */
  protected readonly active = linkedSignal<number, number>({
    source: () => this.documents().length,
    computation: (length, before) => Math.max(0, Math.min(before?.value ?? 0, length - 1)),
  });
  private readonly injector = inject(Injector);
  private readonly scroller = viewChild.required<ElementRef<HTMLElement>>('scroller');
  private readonly height = ROW * parseFloat(getComputedStyle(document.documentElement).fontSize);

  protected readonly indices = computed(() => {
    const count = this.documents().length;
    // Enough for the whole screen, whatever part of it the list has.
    const fit = Math.ceil(window.innerHeight / this.height) + BEYOND;
    const first = Math.max(0, Math.floor(this.top() / this.height) - BEYOND);
    const last = Math.min(count, first + fit + BEYOND);
    const indices = Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
    const active = this.active();
    if (active < first && active < count) indices.unshift(active);
    else if (active >= last && active < count) indices.push(active);
    return indices;
  });

  protected move(event: KeyboardEvent): void {
    const last = this.documents().length - 1;
    const page = Math.max(1, Math.floor(this.scroller().nativeElement.clientHeight / this.height));
    const steps: Record<string, number> = {
      ArrowDown: this.active() + 1,
      ArrowUp: this.active() - 1,
      PageDown: this.active() + page,
      PageUp: this.active() - page,
      Home: 0,
      End: last,
    };
    const target = steps[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(target, last)));
  }

  private focus(index: number): void {
    const scroller = this.scroller().nativeElement;
    const [above, below] = [index * this.height, (index + 1) * this.height];
    if (above < scroller.scrollTop) scroller.scrollTop = above;
    else if (below > scroller.scrollTop + scroller.clientHeight)
      scroller.scrollTop = below - scroller.clientHeight;
    this.top.set(scroller.scrollTop);
    this.active.set(index);
    afterNextRender(() => scroller.querySelector<HTMLElement>(`[data-index="${index}"]`)?.focus(), {
      injector: this.injector,
    });
  }
}
