package main

import (
	"context"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The mapping in the comments of google.rpc.Code. FAILED_PRECONDITION is different: such a request is valid, and
// conflicts with what is stored.
var statusOfCode = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.OutOfRange:         http.StatusBadRequest,
	codes.Unauthenticated:    http.StatusUnauthorized,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.NotFound:           http.StatusNotFound,
	codes.FailedPrecondition: http.StatusConflict,
	codes.AlreadyExists:      http.StatusConflict,
	codes.Aborted:            http.StatusConflict,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
}

// Reasons that HTTP describes better than gRPC's codes.
var statusOfReason = map[string]int{
	"MESSAGE_TOO_LARGE":        http.StatusRequestEntityTooLarge,
	"DOCUMENT_TOO_LARGE":       http.StatusRequestEntityTooLarge,
	"CONTENT_TYPE_UNSUPPORTED": http.StatusUnsupportedMediaType,
	"METHOD_NOT_ALLOWED":       http.StatusMethodNotAllowed,
	"BODY_TOO_SLOW":            http.StatusRequestTimeout,
}

// writeProblem sends an error as RFC 9457 has it, with a reason for programs and the service that failed.
func writeProblem(ctx context.Context, w http.ResponseWriter, err error) {
	received, t := status.Convert(err), traceOf(ctx)
	details := struct {
		Type    string `json:"type"`
		Title   string `json:"title"`
		Status  int    `json:"status"`
		Detail  string `json:"detail"`
		Reason  string `json:"reason"`
		Service string `json:"service"`
		TraceID string `json:"trace_id"`
	}{
		Type: "about:blank", Detail: received.Message(), Reason: "UNDESCRIBED", Service: t.service, TraceID: t.id,
	}
	for _, detail := range received.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			details.Reason = detail.Reason
			details.Service = or(detail.Metadata["service"], t.service)
			details.TraceID = or(detail.Metadata["trace_id"], t.id)
		case *errdetails.RetryInfo:
			// At least a second, in whole ones.
			seconds := detail.RetryDelay.GetSeconds()
			if seconds < 1 {
				seconds = 1
			}
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		}
	}
	details.Status = http.StatusInternalServerError
	if number, ok := statusOfReason[details.Reason]; ok {
		details.Status = number
	} else if number, ok := statusOfCode[received.Code()]; ok {
		details.Status = number
	}
	details.Title = http.StatusText(details.Status)
	if details.Status == http.StatusRequestTimeout {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, details.Status, toJSON(details))
}
