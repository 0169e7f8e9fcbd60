package main

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"pb/ai"
	"pb/business"
	"pb/database"
)

const (
	progressInterval = 250 * time.Millisecond
	// The documents that have both.
	withTextAndLabel = `{"text": {"$gt": ""}, "label": {"$gt": ""}}`
)

// Learn trains a model and reports progress; the last message has the result.
func (s *service) Learn(request *business.LearnRequest, stream business.BusinessService_LearnServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var sent int32
	var result *business.TrainResponse
	ended := make(chan error, 1)
	go func() {
		var err error
		result, err = s.learn(ctx, request, &sent)
		ended <- err
	}()
	ticks := time.NewTicker(progressInterval)
	defer ticks.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			return stream.Send(&business.LearnProgress{Examples: result.Examples, Result: result})
		case <-ticks.C:
			if err := stream.Send(&business.LearnProgress{Examples: atomic.LoadInt32(&sent)}); err != nil {
				return err
			}
		}
	}
}

func (s *service) learn(
	ctx context.Context, request *business.LearnRequest, sent *int32,
) (*business.TrainResponse, error) {
	switch source := request.Source.(type) {
	case *business.LearnRequest_Examples:
		return s.trainWith(ctx, request.ModelId, source.Examples.GetExamples(), sent)
	case *business.LearnRequest_Collection:
		return s.trainFrom(ctx, request.ModelId, source.Collection, sent)
	}
	return nil, invalid(ctx, "source", "SOURCE_MISSING", "set either `examples` or `collection`")
}

// TrainFromStored trains a model with the stored documents that have a text and a label.
func (s *service) TrainFromStored(
	ctx context.Context, request *business.TrainRequest,
) (*business.TrainResponse, error) {
	return s.trainFrom(ctx, request.ModelId, request.Collection, new(int32))
}

func (s *service) trainWith(
	ctx context.Context, model string, examples []*business.Example, sent *int32,
) (*business.TrainResponse, error) {
	trained, err := s.ai.train(ctx, or(model, defaultModel), func(send func(*ai.TrainingData) error) error {
		for _, example := range examples {
			if err := send(&ai.TrainingData{Input: example.GetText(), ExpectedOutput: example.GetLabel()}); err != nil {
				return err
			}
			atomic.AddInt32(sent, 1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return trainResponse(trained, int32(len(examples))), nil
}

func (s *service) trainFrom(
	ctx context.Context, model, collection string, sent *int32,
) (*business.TrainResponse, error) {
	collection = or(collection, defaultCollection)
	trained, err := s.ai.train(ctx, or(model, defaultModel), func(send func(*ai.TrainingData) error) error {
		err := s.database.query(ctx, collection, withTextAndLabel, func(document *database.QueryResponse) error {
			var stored classified
			if err := json.Unmarshal([]byte(document.Data), &stored); err != nil {
				return internal(ctx, "a stored document is not valid", err)
			}
			if err := send(&ai.TrainingData{Input: stored.Text, ExpectedOutput: stored.Label}); err != nil {
				return err
			}
			atomic.AddInt32(sent, 1)
			return nil
		})
		if err == nil && atomic.LoadInt32(sent) == 0 {
			err = newProblem(ctx, codes.FailedPrecondition, "NO_EXAMPLES",
				"`%s` has no document with a `text` and a `label`", collection)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return trainResponse(trained, atomic.LoadInt32(sent)), nil
}

func trainResponse(trained *ai.TrainingStatus, examples int32) *business.TrainResponse {
	return &business.TrainResponse{ModelId: trained.ModelId, Accuracy: trained.Accuracy, Examples: examples}
}
