package main

import (
	"context"
	"sync"
	"time"

	"pb/ai"
	"pb/business"
)

const (
	historySpan     = 10 * time.Minute
	historyInterval = 10 * time.Second
	historySamples  = int(historySpan / historyInterval)
	// The most models; further ones have no history until another is not asked for any more.
	historyModels    = 16
	longestModelName = 64
)

// history has the dashboard's values of the last minutes: of the model `default`, and of those that were asked for.
type history struct {
	lock   sync.Mutex
	models map[string]*pastModel
}

type pastModel struct {
	asked   time.Time
	samples []pastSample
}

type pastSample struct {
	taken   time.Time
	serving map[string]bool
	metrics *ai.ModelMetrics
}

// History returns the samples of one model, from the oldest to the newest, which is sampled from now on.
func (s *service) History(_ context.Context, request *business.HistoryRequest) (*business.HistoryResponse, error) {
	answer := new(business.HistoryResponse)
	now := time.Now()
	for _, sample := range s.history.of(or(request.ModelId, defaultModel), now) {
		past := &business.HistorySample{
			AgeMilliseconds: uint32(now.Sub(sample.taken).Milliseconds()),
			Serving:         sample.serving,
		}
		if sample.metrics != nil {
			past.ModelAccuracy = &sample.metrics.CurrentAccuracy
			past.PredictionsMade = &sample.metrics.PredictionsMade
			past.AverageConfidence = &sample.metrics.AverageConfidence
		}
		answer.Samples = append(answer.Samples, past)
	}
	return answer, nil
}

// keepHistory takes samples until the service stops.
func (s *service) keepHistory() {
	ticks := time.NewTicker(historyInterval)
	defer ticks.Stop()
	for {
		s.sample()
		select {
		case <-ticks.C:
		case <-s.stopping.Done():
			return
		}
	}
}

func (s *service) sample() {
	ctx, cancel := context.WithTimeout(beginTrace(s.name, nil, nil).in(s.stopping), summaryLimit)
	defer cancel()
	taken := time.Now()
	pending := map[string]<-chan *ai.ModelMetrics{}
	for _, model := range s.history.wanted(taken) {
		model := model
		pending[model] = inBackground(func() *ai.ModelMetrics { return s.metrics(ctx, model) })
	}
	serving := map[string]bool{}
	for _, state := range s.states(ctx) {
		serving[state.Name] = state.Serving
	}
	for model, metrics := range pending {
		s.history.add(model, pastSample{taken, serving, <-metrics})
	}
}

// wanted returns the models to sample now, and forgets those that nobody asked for.
func (h *history) wanted(now time.Time) []string {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.models == nil {
		h.models = map[string]*pastModel{}
	}
	if h.models[defaultModel] == nil {
		h.models[defaultModel] = &pastModel{}
	}
	var wanted []string
	for name, model := range h.models {
		if name != defaultModel && now.Sub(model.asked) >= historySpan {
			delete(h.models, name)
			continue
		}
		wanted = append(wanted, name)
	}
	return wanted
}

func (h *history) add(name string, sample pastSample) {
	h.lock.Lock()
	defer h.lock.Unlock()
	model := h.models[name]
	if model == nil {
		return
	}
	if len(model.samples) == historySamples {
		model.samples = model.samples[1:]
	}
	model.samples = append(model.samples, sample)
}

func (h *history) of(name string, now time.Time) (recent []pastSample) {
	h.lock.Lock()
	defer h.lock.Unlock()
	model := h.models[name]
	if model == nil {
		if h.models == nil || len(h.models) >= historyModels || len(name) > longestModelName {
			return nil
		}
		model = &pastModel{}
		h.models[name] = model
	}
	model.asked = now
	for _, sample := range model.samples {
		if now.Sub(sample.taken) < historySpan {
			recent = append(recent, sample)
		}
	}
	return recent
}
