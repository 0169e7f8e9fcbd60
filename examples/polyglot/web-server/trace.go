package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// trace is the W3C trace context of a request, the service that handles it, and its caller.
type trace struct {
	service string
	id      string
	span    string
	// The caller's span; empty at the beginning of a trace.
	parent  string
	sampled string
	state   string
	// The name on the caller's certificate.
	caller string
}

// Version, trace, span, flags, and what a later version may add.
var traceparent = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?$`)

// The length that W3C requires; longer states are dropped as a whole.
const longestState = 512

// beginTrace continues the trace of a request's headers, or begins one if they are missing or malformed.
func beginTrace(service string, parents, states []string) *trace {
	t := &trace{service: service, id: randomHex(16), span: randomHex(8), sampled: "01"}
	if len(parents) != 1 {
		return t
	}
	parts := traceparent.FindStringSubmatch(parents[0])
	switch {
	case parts == nil, parts[1] == "ff", parts[1] == "00" && parts[5] != "",
		strings.Trim(parts[2], "0") == "", strings.Trim(parts[3], "0") == "":
		return t
	}
	t.id, t.parent = parts[2], parts[3]
	if strings.Contains("02468ace", parts[4]) {
		t.sampled = "00"
	}
	if state := strings.Join(states, ","); len(state) <= longestState {
		t.state = state
	}
	return t
}

func randomHex(length int) string {
	bytes := make([]byte, length)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return hex.EncodeToString(bytes)
}

type traceKey struct{}

func (t *trace) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// traceOf returns the trace of a request; outside of requests, a new one.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return beginTrace("unknown", nil, nil)
}

// detached is for work that outlives its request, but belongs to its trace.
func detached(ctx context.Context) context.Context {
	return traceOf(ctx).in(context.Background())
}

// outgoing adds the trace to a call of another service.
func outgoing(ctx context.Context) context.Context {
	t := traceOf(ctx)
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+t.id+"-"+t.span+"-"+t.sampled)
	if t.state != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "tracestate", t.state)
	}
	return ctx
}

func propagateUnary(
	ctx context.Context, method string, request, answer interface{},
	connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return invoke(outgoing(ctx), method, request, answer, connection, options...)
}

func propagateStream(
	ctx context.Context, description *grpc.StreamDesc,
	connection *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return open(outgoing(ctx), description, connection, method, options...)
}
