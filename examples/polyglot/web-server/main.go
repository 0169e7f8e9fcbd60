// The web server: business.BusinessService over mutual TLS, and a page and a JSON edge over HTTP.
//
// settings.go reads the configuration. server.go is what all calls pass, backend.go what calls of other services do.
// business.go, learning.go, summary.go and history.go are the methods; api.go offers them as JSON, through http.go.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
)

const (
	// EX_CONFIG of sysexits.h.
	wrongConfiguration = 78
	// How long health reports NOT_SERVING before the ports close.
	notice = 200 * time.Millisecond
	// How long open calls may continue.
	drain = 10 * time.Second
)

func main() {
	settings, faults := readSettings()
	if len(faults) > 0 {
		fmt.Fprintf(os.Stderr, "the configuration is wrong:\n%s\n", strings.Join(faults, "\n"))
		os.Exit(wrongConfiguration)
	}
	logLevel = settings.level
	if err := run(settings); err != nil {
		logLine(levelError, err.Error())
		os.Exit(1)
	}
}

func run(settings settings) error {
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ending, end := context.WithCancel(context.Background())
	defer end()

	database, err := newDatabase(settings.database)
	if err != nil {
		return err
	}
	ai, err := newAI(settings.ai)
	if err != nil {
		return err
	}
	service := &service{name: settings.name, database: database, ai: ai, stopping: stopping}
	health := newHealthState(ending)
	rpc := newServer(settings, service, health)
	web := newHTTPServer(settings, service)

	rpcListener, err := listen(settings, settings.listen.String())
	if err != nil {
		return err
	}
	httpListener, err := listen(settings, settings.http.String())
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- rpc.Serve(rpcListener) }()
	go func() { failed <- web.Serve(httpListener) }()
	go health.follow(stopping, &database.backend, &ai.backend)
	go service.keepHistory()
	logLine(levelInfo, "serving", "service", settings.name,
		"address", rpcListener.Addr().String(), "http", httpListener.Addr().String())

	select {
	case err := <-failed:
		return err
	case <-stopping.Done():
	}
	logLine(levelInfo, "draining")
	time.Sleep(notice)
	end()
	if !drained(rpc, web) {
		logLine(levelWarn, "cancelled the calls that were open at the drain deadline", "service", settings.name)
	}
	logLine(levelInfo, "stopped", "service", settings.name)
	return nil
}

// drained closes the ports and says whether all open calls ended before the deadline.
func drained(rpc *grpc.Server, web *http.Server) bool {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	ended := inBackground(func() bool { rpc.GracefulStop(); return true })
	err := web.Shutdown(ctx)
	select {
	case <-ended:
	case <-ctx.Done():
		rpc.Stop()
	}
	return err == nil && ctx.Err() == nil
}

func listen(settings settings, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("failed to listen on `%s`: %w", address, err)
	}
	return netutil.LimitListener(listener, settings.connections), nil
}
