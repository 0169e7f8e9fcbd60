package main

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"pb/business"
	"pb/health"
)

const (
	probeInterval = time.Second
	// The same while a dependency is unavailable.
	probeRetry  = 200 * time.Millisecond
	probeAnswer = 2 * time.Second
	// One failed probe is not enough: a dependency that is being redeployed is unavailable for a moment.
	failedProbes = 2
	serviceName  = "business.BusinessService"
)

// healthState is grpc.health.v1: SERVING while all dependencies are.
type healthState struct {
	health.UnimplementedHealthServer
	// Ends the streams of watchers.
	ending context.Context

	lock    sync.Mutex
	serving bool
	// Closed when `serving` changes.
	changed chan struct{}
}

func newHealthState(ending context.Context) *healthState {
	return &healthState{ending: ending, changed: make(chan struct{})}
}

func (h *healthState) set(serving bool) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.serving != serving {
		h.serving = serving
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

func (h *healthState) now() (*health.HealthCheckResponse, <-chan struct{}) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.serving {
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, h.changed
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, h.changed
}

func isServed(name string) bool { return name == "" || name == serviceName }

// Check answers the current health of one service.
func (h *healthState) Check(
	ctx context.Context, request *health.HealthCheckRequest,
) (*health.HealthCheckResponse, error) {
	if !isServed(request.Service) {
		return nil, newProblem(ctx, codes.NotFound, "SERVICE_UNKNOWN", "there is no service `%s`", request.Service)
	}
	state, _ := h.now()
	return state, nil
}

// List answers the health of all services.
func (h *healthState) List(context.Context, *health.HealthListRequest) (*health.HealthListResponse, error) {
	state, _ := h.now()
	statuses := map[string]*health.HealthCheckResponse{"": state, serviceName: state}
	return &health.HealthListResponse{Statuses: statuses}, nil
}

// Watch sends the health of one service now and at each change.
func (h *healthState) Watch(request *health.HealthCheckRequest, stream health.Health_WatchServer) error {
	for {
		state, changed := h.now()
		if !isServed(request.Service) {
			state, changed = &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVICE_UNKNOWN}, nil
		}
		if err := stream.Send(state); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-h.ending.Done():
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// follow probes the dependencies until the service stops.
func (h *healthState) follow(stopping context.Context, needs ...*backend) {
	serving, failed := false, 0
	for stopping.Err() == nil {
		gone := unavailable(stopping, needs)
		if failed++; len(gone) == 0 {
			failed = 0
		}
		switch {
		case stopping.Err() != nil:
		case !serving && failed == 0:
			logLine(levelInfo, "SERVING")
			serving = true
		case serving && failed >= failedProbes:
			logLine(levelError, "NOT_SERVING", "gone", gone)
			serving = false
		}
		pause := probeRetry
		if serving {
			pause = probeInterval
		}
		h.set(serving && stopping.Err() == nil)
		select {
		case <-time.After(pause):
		case <-stopping.Done():
		}
	}
	h.set(false)
}

// unavailable returns the names of the services that do not say SERVING.
func unavailable(ctx context.Context, needs []*backend) []string {
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	states := make(chan *business.BackendState)
	for _, need := range needs {
		go func(need *backend) { states <- need.state(ctx) }(need)
	}
	var gone []string
	for range needs {
		if state := <-states; !state.Serving {
			gone = append(gone, state.Name)
		}
	}
	return gone
}
