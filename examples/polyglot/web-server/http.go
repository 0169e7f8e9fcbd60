package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

// For the whole body of a request.
const bodyLimit = 60 * time.Second

// call is one request over HTTP with the parameters of its path.
type call struct {
	*http.Request
	path map[string]string
}

// route is one operation of the JSON edge; `{name}` in its path is a parameter.
type route struct {
	method, path string
	answer       func(s *service, w http.ResponseWriter, r *call) error
}

// match returns the parameters of a path, if it is the route's.
func (r route) match(path string) (map[string]string, bool) {
	wanted, parts := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(wanted) != len(parts) {
		return nil, false
	}
	parameters := map[string]string{}
	for i, part := range parts {
		if strings.HasPrefix(wanted[i], "{") {
			text, err := url.PathUnescape(part)
			if err != nil || text == "" || !utf8.ValidString(text) {
				return nil, false
			}
			parameters[strings.Trim(wanted[i], "{}")] = text
		} else if wanted[i] != part {
			return nil, false
		}
	}
	return parameters, true
}

// find returns the route of a request and its parameters, or the methods that its path has.
func find(r *http.Request) (found route, parameters map[string]string, allowed []string) {
	for _, route := range routes {
		parameters, matches := route.match(r.URL.EscapedPath())
		if matches && route.method == r.Method {
			return route, parameters, nil
		}
		if matches {
			allowed = append(allowed, route.method)
		}
	}
	return route{}, nil, allowed
}

type connectionKey struct{}

func newHTTPServer(s settings, service *service) *http.Server {
	gate := &gate{hosts: s.hosts, token: s.token}
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(service, gate, w, r) }),
		// A limit for whole requests would also end streams of answers.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connection)
		},
	}
}

// limitBody says when the request's connection must have sent the body.
func limitBody(r *http.Request, deadline time.Time) {
	if connection, ok := r.Context().Value(connectionKey{}).(net.Conn); ok {
		_ = connection.SetReadDeadline(deadline)
	}
}

// serve answers one request over HTTP: its trace, who may ask, the route, the error, the log.
func serve(s *service, gate *gate, w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	t := beginTrace(s.name, r.Header["Traceparent"], r.Header["Tracestate"])
	r = r.WithContext(t.in(r.Context()))
	written := &observed{ResponseWriter: w, status: http.StatusOK}
	for name, value := range pageHeaders {
		w.Header().Set(name, value)
	}
	if r.ContentLength != 0 {
		limitBody(r, began.Add(bodyLimit))
	}
	found, parameters, allowed := find(r)
	err := gate.admit(r)
	switch {
	case err != nil:
	case len(allowed) > 0:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err = invalid(r.Context(), "method", "METHOD_NOT_ALLOWED", "this path has no method `%s`", r.Method)
	case found.answer == nil:
		err = newProblem(r.Context(), codes.NotFound, "PATH_UNKNOWN", "no such path")
	default:
		err = found.answer(s, written, &call{r, parameters})
	}
	if err != nil {
		writeProblem(r.Context(), written, err)
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	logLine(levelInfo, "http", "service", s.name, "method", r.Method, "route", or(found.path, "unknown"),
		"status", written.status, "client", client, "milliseconds", milliseconds(began),
		"trace_id", t.id, "span_id", t.span, "parent_id", t.parent)
}

// observed knows the status that was sent.
type observed struct {
	http.ResponseWriter
	status int
}

func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Flush() { o.ResponseWriter.(http.Flusher).Flush() }

// readBody returns the whole body, which must be UTF-8.
func readBody(r *call) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, messageLimit+1))
	if err == nil {
		limitBody(r.Request, time.Time{})
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, newProblem(r.Context(), codes.DeadlineExceeded, "BODY_TOO_SLOW", "the body was sent too slowly")
	case err != nil:
		return nil, malformed(r, "body", err)
	case len(body) > messageLimit:
		return nil, tooLarge(r.Context(), "body")
	case !utf8.Valid(body):
		return nil, malformed(r, "body", errors.New("it is not UTF-8"))
	}
	return body, nil
}

func readJSON(r *call, value interface{}) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, value); err != nil {
		return malformed(r, "body", err)
	}
	return nil
}

func malformed(r *call, part string, err error) error {
	return invalid(r.Context(), part, "REQUEST_MALFORMED", "the %s is not valid: %v", part, err)
}

func writeJSON(w http.ResponseWriter, status int, value interface{}) error {
	return writeText(w, status, toJSON(value))
}

func writeText(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, text)
	return nil
}

// writeBody does not report that the client is gone: then nobody waits for the answer.
func writeBody(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
