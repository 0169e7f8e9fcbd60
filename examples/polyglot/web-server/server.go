package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // answers callers that accept it
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"pb/business"
	"pb/health"
)

const (
	messageLimit  = 4 << 20
	metadataLimit = 16 << 10
	// What the library reads at most: enough to answer calls with too much.
	messageRead  = 16 << 20
	metadataRead = 256 << 10
	// What HTTP/2 counts for each field besides its text. Source: RFC 9113, 6.5.2.
	fieldSize = 32
	// Calls with one request, and calls whose caller streams.
	unaryLimit  = 60 * time.Second
	streamLimit = 600 * time.Second
	// A connection has the largest window that HTTP/2 has, so that only those of its streams bound what is unread.
	connectionWindow = 1<<31 - 1
	streamWindow     = 256 << 10

	administrator = "pspd"
	healthPrefix  = "/grpc.health.v1.Health/"
)

// grpcSide is what all calls over gRPC pass: traces, the table of callers, limits, descriptions of errors, the log.
type grpcSide struct {
	name    string
	callers map[string]bool
}

func newServer(s settings, service *service, state *healthState) *grpc.Server {
	side := &grpcSide{name: s.name, callers: s.callers}
	options := []grpc.ServerOption{
		grpc.StreamInterceptor(side.intercept),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.CustomCodec(unreadCodec{}),
		grpc.MaxRecvMsgSize(messageRead),
		grpc.MaxHeaderListSize(metadataRead),
		grpc.MaxConcurrentStreams(256),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.InitialWindowSize(streamWindow),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second,
			// Then both sides use their renewed certificates. Calls in progress continue to their end.
			MaxConnectionAge: time.Hour,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 5 * time.Second, PermitWithoutStream: true,
		}),
	}
	if s.identity != nil {
		options = append(options, grpc.Creds(s.identity.credentials()))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(asStreams(business.BusinessService_ServiceDesc), service)
	server.RegisterService(asStreams(health.Health_ServiceDesc), state)
	registerReflection(server)
	return server
}

// asStreams makes streams of one request and one answer of a service's unary methods, which is the same on the wire. So
// one interceptor and one way to read messages are enough.
func asStreams(description grpc.ServiceDesc) *grpc.ServiceDesc {
	for _, method := range description.Methods {
		answer := method.Handler
		handler := func(service interface{}, stream grpc.ServerStream) error {
			response, err := answer(service, stream.Context(), stream.RecvMsg, nil)
			if err != nil {
				return err
			}
			return stream.SendMsg(response)
		}
		stream := grpc.StreamDesc{StreamName: method.MethodName, Handler: handler}
		description.Streams = append(description.Streams, stream)
	}
	description.Methods = nil
	return &description
}

// callStream is a call whose handler sees another context, and whose messages are read here: the library would answer
// faults of messages itself, without details.
type callStream struct {
	grpc.ServerStream
	context context.Context
}

func (s callStream) Context() context.Context { return s.context }

func (s callStream) RecvMsg(message interface{}) error {
	var unread []byte
	if err := s.ServerStream.RecvMsg(&unread); err != nil {
		return err
	}
	if len(unread) > messageLimit {
		return tooLarge(s.context, "message")
	}
	if err := proto.Unmarshal(unread, message.(proto.Message)); err != nil {
		return invalid(s.context, "message", "MESSAGE_MALFORMED", "the message is not valid: %v", err)
	}
	return nil
}

// unreadCodec leaves received messages to callStream.
type unreadCodec struct{}

func (unreadCodec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (unreadCodec) Unmarshal(data []byte, unread interface{}) error {
	*unread.(*[]byte) = data
	return nil
}

func (unreadCodec) String() string { return "proto" }

func (side *grpcSide) intercept(
	service interface{}, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	began := time.Now()
	received, _ := metadata.FromIncomingContext(stream.Context())
	t := beginTrace(side.name, received.Get("traceparent"), received.Get("tracestate"))
	t.caller = callerOf(stream.Context())
	ctx := t.in(stream.Context())
	err := side.admit(ctx, info.FullMethod, received)
	if err == nil {
		limited, cancel := limit(ctx, info)
		err = described(ctx, limited, handle(service, callStream{stream, limited}))
		cancel()
	}
	logCall(t, info.FullMethod, status.Code(err), began)
	return err
}

// limit bounds how long a call may take. A stream of answers ends with its caller.
func limit(ctx context.Context, info *grpc.StreamServerInfo) (context.Context, context.CancelFunc) {
	switch {
	case info.IsServerStream:
		return context.WithCancel(ctx)
	case info.IsClientStream:
		return context.WithTimeout(ctx, streamLimit)
	default:
		return context.WithTimeout(ctx, unaryLimit)
	}
}

// admit refuses other callers than the configured ones and the administrator. Health is for every certificate.
func (side *grpcSide) admit(ctx context.Context, method string, received metadata.MD) error {
	caller := traceOf(ctx).caller
	open := side.callers == nil || strings.HasPrefix(method, healthPrefix)
	if !open && caller != administrator && !side.callers[caller] {
		if caller == "" {
			caller = "unnamed"
		}
		p := newProblem(ctx, codes.PermissionDenied, "CALLER_NOT_ALLOWED", "`%s` may not call `%s`", caller, side.name)
		return p.with("caller", caller)
	}
	size := 0
	for name, values := range received {
		for _, value := range values {
			size += len(name) + len(value) + fieldSize
		}
	}
	if size > metadataLimit {
		p := newProblem(ctx, codes.ResourceExhausted, "METADATA_TOO_LARGE",
			"the call has more than %d bytes of metadata", metadataLimit)
		return p.with("limit", strconv.Itoa(metadataLimit))
	}
	return nil
}

func unknownMethod(_ interface{}, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return newProblem(stream.Context(), codes.Unimplemented, "METHOD_UNKNOWN", "there is no method `%s`", method)
}

// described adds details to an error that has none: those of the library, and of calls that took too long.
func described(caller, limited context.Context, err error) error {
	received := status.Convert(err)
	switch {
	case err == nil:
		return nil
	case caller.Err() == context.DeadlineExceeded:
		return newProblem(caller, codes.DeadlineExceeded, "DEADLINE_PASSED",
			"the caller's deadline passed before the last response")
	case caller.Err() == context.Canceled:
		return status.FromContextError(caller.Err()).Err()
	case limited.Err() != nil:
		return newProblem(caller, codes.DeadlineExceeded, "TOO_SLOW", "the call took longer than its kind may")
	case infoOf(received) != nil:
		return err
	case received.Code() == codes.Unknown:
		return internal(caller, "the call failed", err)
	}
	return err
}

func tooLarge(ctx context.Context, what string) *problem {
	p := newProblem(ctx, codes.InvalidArgument, "MESSAGE_TOO_LARGE",
		"the %s is larger than %d bytes", what, messageLimit)
	return p.with("limit", strconv.Itoa(messageLimit))
}

// logCall writes the line of one call. Health and reflection are too frequent for the log, unless they fail.
func logCall(t *trace, method string, code codes.Code, began time.Time) {
	method = strings.TrimPrefix(method, "/")
	l := levelInfo
	if strings.HasPrefix(method, "grpc.") && code == codes.OK {
		l = levelDebug
	}
	name := code.String()
	switch code {
	case codes.OK:
		name = "Ok"
	case codes.Canceled:
		name = "Cancelled"
	}
	logLine(l, "rpc", "service", t.service, "method", method, "status", name, "milliseconds", milliseconds(began),
		"caller", t.caller, "trace_id", t.id, "span_id", t.span, "parent_id", t.parent)
}
