package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

//go:embed page.html
var pageText string

// pageHeaders are for all answers: only the page's own script and style run, and they call only this server.
var pageHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; " +
		"form-action 'none'; frame-ancestors 'none'; " +
		"script-src " + digestOf("script") + "; style-src " + digestOf("style"),
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// digestOf names the content of the page's only element of this kind.
func digestOf(element string) string {
	_, rest, _ := strings.Cut(pageText, "<"+element+">")
	content, _, _ := strings.Cut(rest, "</"+element+">")
	digest := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
}

func page(_ *service, w http.ResponseWriter, _ *call) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	writeBody(w, http.StatusOK, pageText)
	return nil
}
