/** Shows why a call failed, and the trace id to look it up by. */
import { Component, inject, input, output } from '@angular/core';
import { type Problem } from '../api';
import { Speech } from '../speech';

@Component({
  selector: 'app-problem',
  template: `
    <div class="problem" role="alert">
      @let failure = problem();
      <strong>{{ failure.status === 0 ? say('problem.unreachable') : failure.title }}</strong>
      <p>{{ failure.status === 0 ? say('problem.unreachablebody') : failure.detail }}</p>
      @if (failure.service || failure.traceId) {
        <dl>
          @if (failure.service) {
            <dt>{{ say('problem.service') }}</dt>
            <dd>{{ failure.service }}</dd>
          }
          @if (failure.traceId) {
            <dt>{{ say('problem.trace') }}</dt>
            <dd>
              <code>{{ failure.traceId }}</code>
            </dd>
          }
        </dl>
      }
      @if (retryable()) {
        <button type="button" (click)="retry.emit()">{{ say('problem.retry') }}</button>
      }
    </div>
  `,
})
export class ProblemNote {
  readonly problem = input.required<Problem>();
  readonly retryable = input(false);
  readonly retry = output();
  protected readonly say = inject(Speech).say;
}
