package main

import (
	"context"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"pb/ai"
	"pb/business"
	"pb/database"
	"pb/health"
)

const (
	callLimit      = 10 * time.Second
	trainingLimit  = 300 * time.Second
	healthLimit    = 3 * time.Second
	connectTimeout = 5 * time.Second
	attempts       = 4
	firstPause     = 100 * time.Millisecond
)

var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: connectTimeout,
}

// backend is another service: limits, repetitions and errors of the calls to it.
type backend struct {
	name    string
	service string
	health  health.HealthClient
}

// databaseBackend is the client of the database.
type databaseBackend struct {
	backend
	client database.DatabaseServiceClient
}

// aiBackend is the client of the AI service.
type aiBackend struct {
	backend
	client ai.AiServiceClient
}

func newDatabase(d dependency) (*databaseBackend, error) {
	connection, err := d.dial()
	if err != nil {
		return nil, err
	}
	b := backend{d.name, "database.DatabaseService", health.NewHealthClient(connection)}
	return &databaseBackend{b, database.NewDatabaseServiceClient(connection)}, nil
}

func newAI(d dependency) (*aiBackend, error) {
	connection, err := d.dial()
	if err != nil {
		return nil, err
	}
	b := backend{d.name, "ai.AiService", health.NewHealthClient(connection)}
	return &aiBackend{b, ai.NewAiServiceClient(connection)}, nil
}

// dial opens the connection to another service, which connects again whenever it is lost.
func (d dependency) dial() (*grpc.ClientConn, error) {
	security := grpc.WithInsecure()
	if d.identity != nil {
		security = grpc.WithTransportCredentials(d.identity.credentials())
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	return grpc.Dial(d.address, security,
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithUnaryInterceptor(propagateUnary),
		grpc.WithStreamInterceptor(propagateStream),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithConnectParams(reconnect),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageLimit)),
	)
}

// once makes a call that must not be repeated.
func (b *backend) once(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := call(ctx); err != nil {
		return ofDependency(ctx, err, b.name)
	}
	return nil
}

// repeatedly makes an idempotent call, again with growing pauses while the backend is unavailable.
func (b *backend) repeatedly(ctx context.Context, call func(context.Context) error) error {
	return b.once(ctx, func(ctx context.Context) error { return retry(ctx, func() error { return call(ctx) }) })
}

func retry(ctx context.Context, call func() error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := call()
		if status.Code(err) != codes.Unavailable || attempt == attempts {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
		pause *= 2
	}
}

// state is what the backend's health service says, and how long the answer took.
func (b *backend) state(ctx context.Context) *business.BackendState {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	answer, err := b.health.Check(ctx, &health.HealthCheckRequest{Service: b.service})
	detail := answer.GetStatus().String()
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		detail = "no answer in time"
	case err != nil:
		detail = status.Convert(err).Message()
	}
	return &business.BackendState{
		Name:         b.name,
		Serving:      err == nil && answer.Status == health.HealthCheckResponse_SERVING,
		Detail:       detail,
		Milliseconds: float32(milliseconds(began)),
	}
}

func (d *databaseBackend) create(ctx context.Context, collection, data string) (id string, err error) {
	err = d.once(ctx, func(ctx context.Context) error {
		answer, err := d.client.Create(ctx, &database.CreateRequest{Collection: collection, Data: data})
		id = answer.GetId()
		return err
	})
	return id, err
}

func (d *databaseBackend) read(ctx context.Context, collection, id string) (data string, err error) {
	err = d.repeatedly(ctx, func(ctx context.Context) error {
		answer, err := d.client.Read(ctx, &database.ReadRequest{Collection: collection, Id: id})
		data = answer.GetData()
		return err
	})
	return data, err
}

// update is not repeated: that could overwrite what another caller wrote meanwhile.
func (d *databaseBackend) update(ctx context.Context, collection, id, data string) error {
	return d.once(ctx, func(ctx context.Context) error {
		_, err := d.client.Update(ctx, &database.UpdateRequest{Collection: collection, Id: id, Data: data})
		return err
	})
}

// delete is not repeated: the second attempt would not find what the first one deleted.
func (d *databaseBackend) delete(ctx context.Context, collection, id string) error {
	return d.once(ctx, func(ctx context.Context) error {
		_, err := d.client.Delete(ctx, &database.DeleteRequest{Collection: collection, Id: id})
		return err
	})
}

// query calls `take` with each result as it arrives. It waits up to `callLimit` for each, and is repeated only while
// there was none.
func (d *databaseBackend) query(
	ctx context.Context, collection, query string, take func(*database.QueryResponse) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(callLimit, cancel)
	defer late.Stop()
	var results database.DatabaseService_QueryClient
	var result *database.QueryResponse
	err := retry(ctx, func() (err error) {
		results, err = d.client.Query(ctx, &database.QueryRequest{Collection: collection, Query: query})
		if err == nil {
			result, err = results.Recv()
		}
		return err
	})
	for err == nil {
		late.Stop()
		if err := take(result); err != nil {
			return err
		}
		late.Reset(callLimit)
		result, err = results.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return ofDependency(ctx, err, d.name)
}

func (a *aiBackend) predict(ctx context.Context, text, model string) (answer *ai.PredictResponse, err error) {
	err = a.repeatedly(ctx, func(ctx context.Context) (err error) {
		answer, err = a.client.Predict(ctx, &ai.PredictRequest{InputData: text, ModelId: model})
		return err
	})
	return answer, err
}

// train learns what `examples` sends. If that fails, the call is cancelled and the model stays as it is.
func (a *aiBackend) train(
	ctx context.Context, model string, examples func(send func(*ai.TrainingData) error) error,
) (*ai.TrainingStatus, error) {
	if !isASCII(model) {
		return nil, invalid(ctx, "model_id", "MODEL_ID_INVALID", "the model's id is not ASCII text")
	}
	ctx, cancel := context.WithTimeout(ctx, trainingLimit)
	defer cancel()
	training, err := a.client.TrainModel(metadata.AppendToOutgoingContext(ctx, "model-id", model))
	if err != nil {
		return nil, ofDependency(ctx, err, a.name)
	}
	// EOF means that the AI service has answered already.
	if err := examples(training.Send); err != nil && err != io.EOF {
		return nil, ofDependency(ctx, err, a.name)
	}
	learned, err := training.CloseAndRecv()
	if err != nil {
		return nil, ofDependency(ctx, err, a.name)
	}
	return learned, nil
}

// metrics are a model's current ones.
func (a *aiBackend) metrics(ctx context.Context, model string) (metrics *ai.ModelMetrics, err error) {
	err = a.repeatedly(ctx, func(ctx context.Context) error {
		monitor, err := a.client.MonitorModel(ctx, &ai.ModelIdentifier{ModelId: model})
		if err == nil {
			metrics, err = monitor.Recv()
		}
		return err
	})
	return metrics, err
}

func isASCII(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
