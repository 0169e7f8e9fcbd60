package main

import (
	"context"
	"time"

	"pb/ai"
	"pb/business"
)

const (
	shortestInterval = 200 * time.Millisecond
	// How long a summary waits for a backend's answer.
	summaryLimit = 2 * time.Second
)

// WatchSummary sends the dashboard at intervals.
func (s *service) WatchSummary(
	request *business.SummaryRequest, stream business.BusinessService_WatchSummaryServer,
) error {
	return s.watch(stream.Context(), request, stream.Send)
}

// watch sends one summary immediately, then one per interval until the caller leaves or the service stops; only one if
// the interval is 0.
func (s *service) watch(
	ctx context.Context, request *business.SummaryRequest, send func(*business.Summary) error,
) error {
	collection, model := or(request.Collection, defaultCollection), or(request.ModelId, defaultModel)
	pause := time.Duration(request.IntervalMilliseconds) * time.Millisecond
	if pause < shortestInterval {
		pause = shortestInterval
	}
	for {
		if err := send(s.summary(ctx, collection, model)); err != nil || request.IntervalMilliseconds == 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-s.stopping.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// summary asks both backends at the same time. Values that one does not report in time are absent; its state gives the
// reason.
func (s *service) summary(ctx context.Context, collection, model string) *business.Summary {
	ctx, cancel := context.WithTimeout(ctx, summaryLimit)
	defer cancel()
	states := inBackground(func() []*business.BackendState { return s.states(ctx) })
	metrics := inBackground(func() *ai.ModelMetrics { return s.metrics(ctx, model) })
	summary := new(business.Summary)
	if counted := s.counter.of(ctx, s.database, collection); counted != nil {
		summary.Documents, summary.DocumentsByLabel = &counted.documents, counted.byLabel
		if counted.documents > 0 {
			s.catalog.note(ctx, s.database, collection)
		}
	}
	summary.Backends = <-states
	if reported := <-metrics; reported != nil {
		summary.ModelAccuracy = &reported.CurrentAccuracy
		summary.PredictionsMade = &reported.PredictionsMade
		summary.AverageConfidence = &reported.AverageConfidence
	}
	summary.Timestamp = time.Now().UTC().Format(time.RFC3339Nano)
	return summary
}

// states are those of the database, the AI service and this one.
func (s *service) states(ctx context.Context) []*business.BackendState {
	database := inBackground(func() *business.BackendState { return s.database.state(ctx) })
	ai := s.ai.state(ctx)
	own := &business.BackendState{Name: s.name, Serving: true, Detail: "SERVING"}
	return []*business.BackendState{<-database, ai, own}
}

// metrics are nil if the AI service does not report them.
func (s *service) metrics(ctx context.Context, model string) *ai.ModelMetrics {
	metrics, err := s.ai.metrics(ctx, model)
	if err != nil {
		return nil
	}
	return metrics
}

func inBackground[T any](work func() T) <-chan T {
	done := make(chan T, 1)
	go func() { done <- work() }()
	return done
}
