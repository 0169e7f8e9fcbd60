package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// settings are the whole configuration, from environment variables.
type settings struct {
	name   string
	listen netip.AddrPort
	http   netip.AddrPort
	// Nil only in the insecure loopback mode of tests.
	identity *identity
	// Who may call, besides the administrator; nil for everyone, without TLS.
	callers  map[string]bool
	database dependency
	ai       dependency
	// The names by which browsers may call this server.
	hosts map[string]bool
	// What callers over HTTP have to send; empty if the API is open.
	token       string
	level       level
	connections int
}

// dependency is another service that this one calls.
type dependency struct {
	name     string
	address  string
	identity *identity
}

// environment reads variables and collects all their faults.
type environment struct {
	faults []string
}

func readSettings() (settings, []string) {
	var env environment
	s := settings{
		level:       env.level(),
		name:        env.required("PSPD_NAME", "the service's domain name"),
		listen:      env.address("PSPD_LISTEN", "0.0.0.0:50051"),
		connections: env.number("PSPD_CONNECTIONS", 4096),
	}
	insecure := os.Getenv("PSPD_INSECURE_LOOPBACK") == "1"
	if insecure {
		if s.listen.IsValid() && !s.listen.Addr().IsLoopback() {
			env.fault("PSPD_LISTEN", "must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1")
		}
	} else {
		s.identity = env.identity()
		s.callers = names(os.Getenv("PSPD_CALLERS"))
	}
	s.http = env.address("WEB_HTTP", "0.0.0.0:8080")
	s.database = env.dependency("WEB_DATABASE", "database-server", insecure, s.identity)
	s.ai = env.dependency("WEB_AI", "ai-server", insecure, s.identity)
	s.token = env.token()
	s.hosts = env.hosts(s.name)
	return s, env.faults
}

func (e *environment) fault(key, format string, values ...interface{}) {
	e.faults = append(e.faults, fmt.Sprintf("`%s` ", key)+fmt.Sprintf(format, values...))
}

func (e *environment) required(key, meaning string) string {
	value := os.Getenv(key)
	if value == "" {
		e.fault(key, "is not set: set it to %s", meaning)
	}
	return value
}

// file returns the path of a file that is readable, or an empty text.
func (e *environment) file(key, meaning string) string {
	path := e.required(key, meaning)
	if path == "" {
		return ""
	}
	if _, err := os.ReadFile(path); err != nil {
		e.fault(key, "names a file that is not readable: %v", err)
		return ""
	}
	return path
}

func (e *environment) address(key, example string) netip.AddrPort {
	meaning := "an address such as " + example
	value := e.required(key, meaning)
	address, err := netip.ParseAddrPort(value)
	if err != nil && value != "" {
		e.fault(key, "is `%s`, which is not %s", value, meaning)
	}
	return address
}

func (e *environment) number(key string, otherwise int) int {
	value := os.Getenv(key)
	if value == "" {
		return otherwise
	}
	number, err := strconv.Atoi(value)
	if err != nil || number < 1 {
		e.fault(key, "is `%s`, which is not a number from 1", value)
	}
	return number
}

func (e *environment) level() level {
	value := os.Getenv("LOG_LEVEL")
	if value == "" {
		return levelInfo
	}
	for l, name := range levelNames {
		if strings.EqualFold(name, value) {
			return level(l)
		}
	}
	e.fault("LOG_LEVEL", "is `%s`, which is not one of off, error, warn, info, debug, trace", value)
	return levelInfo
}

func (e *environment) dependency(key, name string, insecure bool, identity *identity) dependency {
	value := e.required(key, "a URL such as https://name.domain:50051")
	if value == "" {
		return dependency{}
	}
	scheme, port := "https", "443"
	if insecure {
		scheme, port = "http", "80"
	}
	parsed, err := url.Parse(value)
	switch {
	case err != nil:
		e.fault(key, "is `%s`: it is not a URL", value)
		return dependency{}
	case parsed.Scheme != scheme:
		e.fault(key, "is `%s`: its scheme must be `%s`", value, scheme)
		return dependency{}
	case parsed.Hostname() == "":
		e.fault(key, "is `%s`: it has no host", value)
		return dependency{}
	}
	host := parsed.Hostname()
	ip, err := netip.ParseAddr(host)
	isAddress := err == nil
	if insecure && host != "localhost" && !(isAddress && ip.IsLoopback()) {
		e.fault(key, "is `%s`: its host must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1", value)
	}
	// An address, and `localhost`, are not names of services.
	if !isAddress && host != "localhost" {
		name = strings.Split(host, ".")[0]
	}
	address := parsed.Host
	if parsed.Port() == "" {
		address += ":" + port
	}
	return dependency{name: name, address: address, identity: identity}
}

// token reads WEB_TOKEN, or the file that WEB_TOKEN_FILE names.
func (e *environment) token() string {
	key, token := "WEB_TOKEN", os.Getenv("WEB_TOKEN")
	if path := os.Getenv("WEB_TOKEN_FILE"); path != "" {
		contents, err := os.ReadFile(path)
		if err != nil {
			e.fault("WEB_TOKEN_FILE", "names `%s`, which is not readable: %v", path, err)
			return ""
		}
		key, token = "WEB_TOKEN_FILE", string(contents)
	} else if token == "" {
		return ""
	}
	token = strings.TrimSpace(token)
	if len(token) < 16 || !isGraphic(token) {
		e.fault(key, "is not a valid token: it must have at least 16 characters and no spaces")
	}
	return token
}

func (e *environment) hosts(own string) map[string]bool {
	hosts := names(strings.ToLower(os.Getenv("WEB_HOSTS")))
	for host := range hosts {
		if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			e.fault("WEB_HOSTS", "has `%s`, which is not a host name without a port", host)
		}
	}
	hosts["localhost"], hosts[strings.ToLower(own)] = true, true
	return hosts
}

// names reads names that are separated by commas.
func names(text string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Split(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			set[name] = true
		}
	}
	return set
}

func isGraphic(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
