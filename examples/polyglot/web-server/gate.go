package main

import (
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// gate admits requests of the server's own page and of programs. A browser sends requests of any web site to any server
// that it can reach:
//
//   - Host: a site whose name was made to point to this server is known by its name. Addresses cannot be rebound.
//   - Origin and Sec-Fetch-Site: browsers say which site sends a request, and sites cannot change it.
//   - Content-Type: a form of another site cannot send the types of the API.
type gate struct {
	hosts map[string]bool
	token string
	// Answers to wrong tokens leave one after another.
	wrong sync.Mutex
}

const wrongTokenPause = 500 * time.Millisecond

func (g *gate) admit(r *http.Request) error {
	ctx := r.Context()
	host, port := hostAndPort(r.Host, "")
	switch {
	case r.URL.Path == "/healthz":
		return nil
	case host == "":
		return invalid(ctx, "host", "HOST_INVALID", "the request does not name one valid host")
	case !g.isOwn(host):
		return newProblem(ctx, codes.PermissionDenied, "HOST_UNKNOWN",
			"`%s` is not a name of this server: use an address, or add the name to `WEB_HOSTS`", host)
	// The page itself: links on other sites may lead there.
	case !strings.HasPrefix(r.URL.Path, "/api/"):
		return nil
	case !isOwnOrigin(r, host, port) || !isOwnSite(r):
		return newProblem(ctx, codes.PermissionDenied, "ORIGIN_FOREIGN",
			"requests of pages of other sites are rejected")
	case !hasContentType(r):
		return invalid(ctx, "content-type", "CONTENT_TYPE_UNSUPPORTED", "the content type is not one of this operation")
	case g.token == "":
		return nil
	}
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		if subtle.ConstantTimeCompare([]byte(strings.TrimSpace(shown)), []byte(g.token)) == 1 {
			return nil
		}
		g.wrong.Lock()
		defer g.wrong.Unlock()
		time.Sleep(wrongTokenPause)
	}
	return newProblem(ctx, codes.Unauthenticated, "TOKEN_REQUIRED",
		"authentication required: send the token as `Authorization: Bearer`")
}

func (g *gate) isOwn(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || g.hosts[host]
}

// hostAndPort splits `name:port`; the name is empty if it is not valid.
func hostAndPort(text, defaultPort string) (host, port string) {
	parsed, err := url.Parse("//" + text)
	if err != nil || parsed.Host != text || parsed.User != nil {
		return "", ""
	}
	return strings.ToLower(parsed.Hostname()), or(parsed.Port(), defaultPort)
}

// isOwnOrigin reports whether the request is of a page of this host and port, or of a program.
func isOwnOrigin(r *http.Request, host, port string) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	scheme, authority, _ := strings.Cut(origins[0], "://")
	defaults := map[string]string{"http": "80", "https": "443"}
	if len(origins) > 1 || defaults[scheme] == "" {
		return false
	}
	originHost, originPort := hostAndPort(authority, defaults[scheme])
	return net.JoinHostPort(originHost, originPort) == net.JoinHostPort(host, or(port, defaults[scheme]))
}

func isOwnSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
}

func hasContentType(r *http.Request) bool {
	kind := contentType(r)
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	isTable := kind == "text/csv" && strings.HasSuffix(r.URL.Path, "/train")
	return r.ContentLength == 0 || isJSON || isTable
}

func contentType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}
