package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"sync"

	"google.golang.org/grpc/status"

	"pb/business"
)

const (
	defaultCollection = "documents"
	defaultModel      = "default"
	// Further documents wait in the flow control of their stream.
	ingestedAtOnce = 16
	// Many, because the database writes concurrent documents together.
	uploadedAtOnce = 64
	mostFailures   = 100
)

// service is business.BusinessService; the JSON edge calls the same methods.
type service struct {
	business.UnimplementedBusinessServiceServer
	name     string
	database *databaseBackend
	ai       *aiBackend
	catalog  catalog
	counter  counter
	history  history
	// Ends the streams of the dashboard.
	stopping context.Context
}

// Classify predicts a text's label.
func (s *service) Classify(
	ctx context.Context, request *business.ClassifyRequest,
) (*business.ClassifiedDocument, error) {
	return s.classify(ctx, request, false)
}

// ClassifyAndStore predicts a document's label and stores the document with it.
func (s *service) ClassifyAndStore(
	ctx context.Context, request *business.ClassifyRequest,
) (*business.ClassifiedDocument, error) {
	return s.classify(ctx, request, true)
}

// classified is a document as it is stored.
type classified struct {
	Text       string  `json:"text"`
	Label      string  `json:"label"`
	Confidence float32 `json:"confidence"`
	ModelID    string  `json:"model_id"`
}

func (s *service) classify(
	ctx context.Context, request *business.ClassifyRequest, store bool,
) (*business.ClassifiedDocument, error) {
	document := &business.ClassifiedDocument{
		Collection: or(request.Collection, defaultCollection),
		Text:       request.Text,
		ModelId:    or(request.ModelId, defaultModel),
		Reference:  request.Reference,
	}
	prediction, err := s.ai.predict(ctx, document.Text, document.ModelId)
	if err != nil {
		return nil, err
	}
	document.Label, document.Confidence = prediction.Prediction, prediction.Confidence
	if store {
		data := toJSON(classified{document.Text, document.Label, document.Confidence, document.ModelId})
		document.Id, err = s.create(ctx, document.Collection, data)
	}
	return document, err
}

func (s *service) create(ctx context.Context, collection, data string) (string, error) {
	id, err := s.database.create(ctx, collection, data)
	if err == nil {
		s.catalog.note(ctx, s.database, collection)
	}
	return id, err
}

// Upload stores documents as they arrive.
func (s *service) Upload(stream business.BusinessService_UploadServer) error {
	stored, err := s.upload(stream.Context(), stream.Recv)
	if err != nil {
		return err
	}
	return stream.SendAndClose(stored)
}

// UploadBatch stores the documents of one message.
func (s *service) UploadBatch(
	ctx context.Context, request *business.UploadBatchRequest,
) (*business.UploadResponse, error) {
	position := -1
	return s.upload(ctx, func() (*business.UploadRequest, error) {
		if position++; position == len(request.Documents) {
			return nil, io.EOF
		}
		return &business.UploadRequest{
			Collection: request.Collection,
			Data:       request.Documents[position],
			Reference:  strconv.Itoa(position),
		}, nil
	})
}

func (s *service) upload(
	ctx context.Context, next func() (*business.UploadRequest, error),
) (*business.UploadResponse, error) {
	var lock sync.Mutex
	sum := new(business.UploadResponse)
	err := each(uploadedAtOnce, next, func(document *business.UploadRequest) error {
		_, err := s.create(ctx, or(document.Collection, defaultCollection), document.Data)
		lock.Lock()
		defer lock.Unlock()
		if err == nil {
			sum.Stored++
			return nil
		}
		sum.Failed++
		if len(sum.Failures) < mostFailures {
			failed := &business.UploadFailure{Reference: document.Reference, Failure: failureOf(err)}
			sum.Failures = append(sum.Failures, failed)
		}
		return nil
	})
	return sum, err
}

// Ingest classifies and stores documents as they arrive. If the caller does not read results, sending them blocks, and
// no further documents are read.
func (s *service) Ingest(stream business.BusinessService_IngestServer) error {
	var lock sync.Mutex
	return each(ingestedAtOnce, stream.Recv, func(request *business.ClassifyRequest) error {
		result := &business.IngestResult{Reference: request.Reference}
		document, err := s.classify(stream.Context(), request, true)
		if err == nil {
			result.Outcome = &business.IngestResult_Document{Document: document}
		} else {
			result.Outcome = &business.IngestResult_Failure{Failure: failureOf(err)}
		}
		lock.Lock()
		defer lock.Unlock()
		return stream.Send(result)
	})
}

// each calls `do` for each value of `next` until EOF, at most `limit` at a time. The first error ends it.
func each[T any](limit int, next func() (T, error), do func(T) error) error {
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, limit)
	failed := make(chan error, limit)
	for {
		select {
		case err := <-failed:
			return err
		case places <- struct{}{}:
		}
		value, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		running.Add(1)
		go func() {
			defer running.Done()
			if err := do(value); err != nil {
				failed <- err
			}
			<-places
		}()
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// ListCollections returns the collections that this service knows.
func (s *service) ListCollections(
	ctx context.Context, _ *business.ListCollectionsRequest,
) (*business.ListCollectionsResponse, error) {
	collections, err := s.catalog.list(ctx, s.database)
	return &business.ListCollectionsResponse{Collections: collections}, err
}

func failureOf(err error) *business.Failure {
	failed := status.Convert(err)
	return &business.Failure{Code: int32(failed.Code()), Message: failed.Message()}
}

// or returns the first text, or the second one if that is empty.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// toJSON keeps texts readable: `<`, `>` and `&` are not escaped.
func toJSON(value interface{}) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // all values are of this program's own types
	}
	return string(bytes.TrimSpace(text.Bytes()))
}
