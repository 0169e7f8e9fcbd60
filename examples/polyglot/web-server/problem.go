package main

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/golang/protobuf/proto"
	"github.com/golang/protobuf/ptypes"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// problem is an error that callers get as google.rpc.Status with ErrorInfo and other details.
type problem struct {
	code    codes.Code
	message string
	info    *errdetails.ErrorInfo
	details []proto.Message
}

const (
	domain     = "pspd.internal"
	retryAfter = time.Second
	// A status is sent as metadata, of which clients accept 8 KiB at least, and texts may quote what a caller sent.
	longestText = 512
	textEnd     = 128
)

func newProblem(ctx context.Context, code codes.Code, reason, format string, values ...interface{}) *problem {
	t := traceOf(ctx)
	return &problem{
		code:    code,
		message: shortened(fmt.Sprintf(format, values...)),
		info: &errdetails.ErrorInfo{
			Reason:   reason,
			Domain:   domain,
			Metadata: map[string]string{"service": t.service, "trace_id": t.id},
		},
	}
}

// invalid describes one invalid field of a request.
func invalid(ctx context.Context, field, reason, format string, values ...interface{}) *problem {
	p := newProblem(ctx, codes.InvalidArgument, reason, format, values...)
	violation := &errdetails.BadRequest_FieldViolation{Field: field, Description: p.message}
	p.details = append(p.details, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{violation},
	})
	return p
}

// internal describes a failure of this service; the cause is logged and not sent.
func internal(ctx context.Context, message string, cause error) *problem {
	t := traceOf(ctx)
	logLine(levelError, message, "cause", cause.Error(), "trace_id", t.id, "span_id", t.span)
	return newProblem(ctx, codes.Internal, "INTERNAL", "%s", message)
}

func (p *problem) with(key, value string) *problem {
	p.info.Metadata[key] = shortened(value)
	return p
}

func (p *problem) Error() string { return p.message }

// GRPCStatus is what gRPC sends for this error.
func (p *problem) GRPCStatus() *status.Status {
	described, err := status.New(p.code, p.message).WithDetails(append([]proto.Message{p.info}, p.details...)...)
	if err != nil {
		return status.New(p.code, p.message)
	}
	return described
}

// ofDependency passes on the error of another service if that described it. Otherwise the service was not reached or
// too slow, which is described here.
func ofDependency(ctx context.Context, err error, dependency string) error {
	received := status.Convert(err)
	if infoOf(received) != nil {
		return err
	}
	code, reason, what := received.Code(), "DEPENDENCY_FAILED", "failed"
	switch code {
	case codes.DeadlineExceeded, codes.Canceled:
		code, reason, what = codes.DeadlineExceeded, "DEPENDENCY_TOO_SLOW", "did not answer in time"
	case codes.Unavailable, codes.Unknown, codes.Internal:
		code, reason, what = codes.Unavailable, "DEPENDENCY_UNREACHABLE", "is unreachable"
	}
	p := newProblem(ctx, code, reason, "`%s` %s: %s", dependency, what, received.Message())
	p.details = append(p.details, &errdetails.RetryInfo{RetryDelay: ptypes.DurationProto(retryAfter)})
	return p.with("dependency", dependency)
}

func infoOf(received *status.Status) *errdetails.ErrorInfo {
	for _, detail := range received.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// shortened cuts the middle out of a text that is too long.
func shortened(text string) string {
	if len(text) <= longestText {
		return text
	}
	start, end := longestText-textEnd, len(text)-textEnd
	for !utf8.RuneStart(text[start]) {
		start--
	}
	for !utf8.RuneStart(text[end]) {
		end++
	}
	return text[:start] + "…" + text[end:]
}
