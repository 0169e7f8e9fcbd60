/** Shows an error and its trace id. */
import { Component, computed, inject, input, output } from '@angular/core';
import { Code } from '@connectrpc/connect';
import type { Key } from '../dictionary';
import { type Problem } from '../problem';
import { Translator } from '../translator';

const TITLES: Partial<Record<Code, Key>> = {
  [Code.InvalidArgument]: 'problem.invalid',
  [Code.FailedPrecondition]: 'problem.precondition',
  [Code.NotFound]: 'problem.missing',
  [Code.Unauthenticated]: 'problem.unauthenticated',
  [Code.PermissionDenied]: 'problem.denied',
  [Code.ResourceExhausted]: 'problem.exhausted',
  [Code.DeadlineExceeded]: 'problem.late',
  [Code.Unavailable]: 'problem.unavailable',
};

@Component({
  selector: 'app-problem',
  template: `
    <div class="problem" role="alert">
      @let failure = problem();
      <strong>{{ t(title()) }}</strong>
      <p>{{ failure.described ? failure.detail : t('problem.unreachablebody') }}</p>
      @if (failure.service || failure.traceId) {
        <dl>
          @if (failure.service) {
            <dt>{{ t('problem.service') }}</dt>
            <dd>
              <code>{{ failure.service }}</code>
            </dd>
          }
          @if (failure.traceId) {
            <dt>{{ t('problem.trace') }}</dt>
            <dd>
              <code data-trace>{{ failure.traceId }}</code>
            </dd>
          }
        </dl>
      }
      @if (retryable()) {
        <button type="button" (click)="retry.emit()">{{ t('problem.retry') }}</button>
      }
    </div>
  `,
})
export class ProblemNote {
  readonly problem = input.required<Problem>();
  readonly retryable = input(false);
  readonly retry = output();
  protected readonly t = inject(Translator).t;
  protected readonly title = computed<Key>(() => {
    const { described, code } = this.problem();
    return described ? (TITLES[code] ?? 'problem.failed') : 'problem.unreachable';
  });
}
