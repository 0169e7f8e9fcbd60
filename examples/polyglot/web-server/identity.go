package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// identity is the deployment's CA and the service's own certificate and key. Each new connection reads the files
// again if they changed: a certificate is renewed without a restart.
type identity struct {
	ca, cert, key string
	keyLog        io.Writer

	lock  sync.Mutex
	stamp string
	chain tls.Certificate
	roots *x509.CertPool
}

// identity reads the files that PSPD_TLS_CA, PSPD_TLS_CERT and PSPD_TLS_KEY name.
func (e *environment) identity() *identity {
	i := &identity{
		ca:   e.file("PSPD_TLS_CA", "the path of the deployment's CA certificate"),
		cert: e.file("PSPD_TLS_CERT", "the path of the service's certificate chain"),
		key:  e.file("PSPD_TLS_KEY", "the path of the certificate's private key"),
	}
	if path := os.Getenv("SSLKEYLOGFILE"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			e.fault("SSLKEYLOGFILE", "names a file that is not writable: %v", err)
		} else {
			i.keyLog = file
		}
	}
	if i.ca == "" || i.cert == "" || i.key == "" {
		return nil
	}
	i.stamp = i.currentStamp()
	if err := i.read(); err != nil {
		e.faults = append(e.faults, err.Error())
	}
	return i
}

func (i *identity) read() error {
	authority, err := os.ReadFile(i.ca)
	if err != nil {
		return fmt.Errorf("`PSPD_TLS_CA` names a file that is not readable: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return errors.New("`PSPD_TLS_CA` names a file that has no certificate")
	}
	chain, err := tls.LoadX509KeyPair(i.cert, i.key)
	if err != nil {
		return fmt.Errorf("`PSPD_TLS_CERT` and `PSPD_TLS_KEY` do not name a certificate and its key: %w", err)
	}
	i.roots, i.chain = roots, chain
	return nil
}

// currentStamp changes whenever one of the files is replaced or written.
func (i *identity) currentStamp() string {
	var stamp strings.Builder
	for _, path := range []string{i.ca, i.cert, i.key} {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintln(&stamp, info.ModTime().UnixNano(), info.Size())
		}
	}
	return stamp.String()
}

// config has what the files have now. If they are damaged or only half replaced, the previous content stays in use.
func (i *identity) config() *tls.Config {
	i.lock.Lock()
	defer i.lock.Unlock()
	if stamp := i.currentStamp(); stamp != i.stamp {
		i.stamp = stamp
		if err := i.read(); err != nil {
			logLine(levelError, "the new certificate is not usable; keeping the old one", "faults", err.Error())
		} else {
			logLine(levelInfo, "reloaded the certificate", "certificate", i.cert)
		}
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{i.chain},
		// As a server, and as a client.
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  i.roots,
		RootCAs:    i.roots,
		// Each connection has a configuration of its own, so there is nothing to resume.
		SessionTicketsDisabled: true,
		KeyLogWriter:           i.keyLog,
	}
}

// freshTLS is gRPC's TLS with the certificates that are current at each handshake.
type freshTLS struct {
	credentials.TransportCredentials
	identity *identity
}

func (i *identity) credentials() credentials.TransportCredentials {
	return freshTLS{credentials.NewTLS(&tls.Config{}), i}
}

func (t freshTLS) ClientHandshake(
	ctx context.Context, authority string, connection net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(t.identity.config()).ClientHandshake(ctx, authority, connection)
}

func (t freshTLS) ServerHandshake(connection net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(t.identity.config()).ServerHandshake(connection)
}

func (t freshTLS) Clone() credentials.TransportCredentials { return t }

// callerOf returns the caller's name: the DNS name on its certificate that is a single label. `localhost` is on every
// certificate.
func callerOf(ctx context.Context) string {
	from, _ := peer.FromContext(ctx)
	if from == nil {
		return ""
	}
	info, secure := from.AuthInfo.(credentials.TLSInfo)
	if !secure || len(info.State.PeerCertificates) == 0 {
		return ""
	}
	for _, name := range info.State.PeerCertificates[0].DNSNames {
		if !strings.Contains(name, ".") && name != "localhost" {
			return name
		}
	}
	return ""
}
