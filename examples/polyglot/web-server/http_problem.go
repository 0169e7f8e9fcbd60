package main

import (
	"context"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// problemDetails is an error as RFC 9457 has it, with a reason for programs and the service that failed.
type problemDetails struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Reason  string `json:"reason"`
	Service string `json:"service"`
	TraceID string `json:"trace_id"`
}

func writeProblem(ctx context.Context, w http.ResponseWriter, err error) {
	received, t := status.Convert(err), traceOf(ctx)
	reason, service, id := "UNDESCRIBED", t.service, t.id
	if info := infoOf(received); info != nil {
		reason = info.Reason
		service, id = or(info.Metadata["service"], service), or(info.Metadata["trace_id"], id)
	}
	for _, detail := range received.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok && retry.RetryDelay != nil {
			seconds := retry.RetryDelay.Seconds
			if seconds < 1 {
				seconds = 1
			}
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		}
	}
	number := httpStatus(reason, received.Code())
	text := toJSON(problemDetails{
		Type: "about:blank", Title: http.StatusText(number), Status: number, Detail: received.Message(),
		Reason: reason, Service: service, TraceID: id,
	})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(number)
	_, _ = w.Write([]byte(text))
}

// httpStatus is the mapping in the comments of google.rpc.Code, unless HTTP describes the reason better.
func httpStatus(reason string, code codes.Code) int {
	switch reason {
	case "MESSAGE_TOO_LARGE", "DOCUMENT_TOO_LARGE":
		return http.StatusRequestEntityTooLarge
	case "CONTENT_TYPE_UNSUPPORTED":
		return http.StatusUnsupportedMediaType
	case "METHOD_NOT_ALLOWED":
		return http.StatusMethodNotAllowed
	case "BODY_TOO_SLOW":
		return http.StatusRequestTimeout
	}
	switch code {
	case codes.InvalidArgument, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	// Such a request is valid, and conflicts with what is stored.
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

func missingPath(ctx context.Context) error {
	return newProblem(ctx, codes.NotFound, "PATH_UNKNOWN", "no such path")
}

func tooSlow(ctx context.Context) error {
	return newProblem(ctx, codes.DeadlineExceeded, "BODY_TOO_SLOW", "the body was sent too slowly")
}
