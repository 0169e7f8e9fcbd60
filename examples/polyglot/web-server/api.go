package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"pb/business"
	"pb/database"
)

const (
	base         = "/api/v1"
	defaultLimit = "50"
)

var routes = []route{
	{"GET", "/", page},
	{"GET", "/healthz", healthz},
	{"POST", base + "/classify", classify},
	{"GET", base + "/collections", collections},
	{"GET", base + "/collections/{collection}/documents", listDocuments},
	{"POST", base + "/collections/{collection}/documents", createDocument},
	{"GET", base + "/collections/{collection}/documents/{id}", readDocument},
	{"PUT", base + "/collections/{collection}/documents/{id}", updateDocument},
	{"DELETE", base + "/collections/{collection}/documents/{id}", deleteDocument},
	{"POST", base + "/models/{id}/train", train},
	{"GET", base + "/summary", summary},
	{"GET", base + "/history", pastValues},
}

func healthz(_ *service, w http.ResponseWriter, _ *call) error {
	writeBody(w, http.StatusOK, "ok\n")
	return nil
}

func classify(s *service, w http.ResponseWriter, r *call) error {
	var body struct {
		Text       string `json:"text"`
		ModelID    string `json:"model_id"`
		Collection string `json:"collection"`
		Store      bool   `json:"store"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	request := &business.ClassifyRequest{Text: body.Text, ModelId: body.ModelID, Collection: body.Collection}
	document, err := s.classify(r.Context(), request, body.Store)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Label      string  `json:"label"`
		Confidence float32 `json:"confidence"`
		ModelID    string  `json:"model_id"`
		ID         string  `json:"id,omitempty"`
	}{document.Label, document.Confidence, document.ModelId, document.Id})
}

func collections(s *service, w http.ResponseWriter, r *call) error {
	names, err := s.catalog.list(r.Context(), s.database)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string][]string{"collections": names})
}

func listDocuments(s *service, w http.ResponseWriter, r *call) error {
	query, err := window(r.URL.Query())
	if err != nil {
		return malformed(r, "query", err)
	}
	var documents []string
	err = s.database.query(r.Context(), r.path["collection"], query, func(document *database.QueryResponse) error {
		documents = append(documents, stored(document.Id, document.Data))
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, `{"documents":[`+strings.Join(documents, ",")+`]}`)
}

// stored is a document as JSON; its text stays as it was sent.
func stored(id, data string) string { return `{"id":` + toJSON(id) + `,"data":` + data + `}` }

// window is the query of a request. The parameters `limit` and `skip` are for queries without `$limit` and `$skip`.
func window(parameters url.Values) (string, error) {
	query := map[string]json.RawMessage{}
	if text := strings.TrimSpace(parameters.Get("query")); text != "" {
		if err := json.Unmarshal([]byte(text), &query); err != nil || query == nil {
			return "", fmt.Errorf("`query` is not a JSON object: %v", err)
		}
	}
	for _, name := range []string{"limit", "skip"} {
		value := parameters.Get(name)
		if value == "" {
			continue
		}
		if _, err := strconv.ParseUint(value, 10, 63); err != nil || query["$"+name] != nil {
			return "", fmt.Errorf("`%s` is not a number, or the query has one too", name)
		}
		query["$"+name] = json.RawMessage(value)
	}
	if query["$limit"] == nil {
		query["$limit"] = json.RawMessage(defaultLimit)
	}
	return toJSON(query), nil
}

func createDocument(s *service, w http.ResponseWriter, r *call) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	id, err := s.create(r.Context(), r.path["collection"], string(body))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, map[string]string{"id": id})
}

func readDocument(s *service, w http.ResponseWriter, r *call) error {
	data, err := s.database.read(r.Context(), r.path["collection"], r.path["id"])
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, stored(r.path["id"], data))
}

func updateDocument(s *service, w http.ResponseWriter, r *call) error {
	body, err := readBody(r)
	if err == nil {
		err = s.database.update(r.Context(), r.path["collection"], r.path["id"], string(body))
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func deleteDocument(s *service, w http.ResponseWriter, r *call) error {
	err := s.database.delete(r.Context(), r.path["collection"], r.path["id"])
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// train takes examples as JSON, or as CSV whose first line has `text` and `label`.
func train(s *service, w http.ResponseWriter, r *call) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	read := examplesOfJSON
	if contentType(r.Request) == "text/csv" {
		read = examplesOfCSV
	}
	examples, err := read(body)
	if err != nil {
		return malformed(r, "body", err)
	}
	trained, err := s.trainWith(r.Context(), r.path["id"], examples, new(int32))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		ModelID  string  `json:"model_id"`
		Accuracy float32 `json:"accuracy"`
		Examples int32   `json:"examples"`
	}{trained.ModelId, trained.Accuracy, trained.Examples})
}

func examplesOfJSON(body []byte) ([]*business.Example, error) {
	var training struct{ Examples []*business.Example }
	err := json.Unmarshal(body, &training)
	return training.Examples, err
}

func examplesOfCSV(body []byte) ([]*business.Example, error) {
	rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	text, label := -1, -1
	for column, name := range rows[0] {
		switch name {
		case "text":
			text = column
		case "label":
			label = column
		}
	}
	if text < 0 || label < 0 {
		return nil, errors.New("the first line has no `text` or no `label`")
	}
	examples := make([]*business.Example, 0, len(rows)-1)
	for _, row := range rows[1:] {
		examples = append(examples, &business.Example{Text: row[text], Label: row[label]})
	}
	return examples, nil
}

// summary is the live dashboard as server-sent events.
func summary(s *service, w http.ResponseWriter, r *call) error {
	parameters := r.URL.Query()
	interval, err := strconv.ParseUint(or(parameters.Get("interval_ms"), "2000"), 10, 32)
	if err != nil {
		return malformed(r, "query", err)
	}
	request := &business.SummaryRequest{
		Collection:           parameters.Get("collection"),
		ModelId:              parameters.Get("model_id"),
		IntervalMilliseconds: uint32(interval),
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	// The answer has started, so an error has nowhere to go: the client is gone.
	_ = s.watch(r.Context(), request, func(summary *business.Summary) error {
		_, err := fmt.Fprintf(w, "data: %s\n\n", toJSON(dashboardOf(summary)))
		w.(http.Flusher).Flush()
		return err
	})
	return nil
}

// dashboardOf is a summary as JSON, with members that Go's generated code leaves out if they are empty.
func dashboardOf(summary *business.Summary) interface{} {
	type state struct {
		*business.BackendState
		Serving      bool    `json:"serving"`
		Milliseconds float32 `json:"milliseconds"`
	}
	backends := []state{}
	for _, backend := range summary.Backends {
		backends = append(backends, state{backend, backend.Serving, backend.Milliseconds})
	}
	byLabel := summary.DocumentsByLabel
	if byLabel == nil {
		byLabel = map[string]uint64{}
	}
	return struct {
		*business.Summary
		Backends []state           `json:"backends"`
		ByLabel  map[string]uint64 `json:"documents_by_label"`
	}{summary, backends, byLabel}
}

func pastValues(s *service, w http.ResponseWriter, r *call) error {
	past, err := s.History(r.Context(), &business.HistoryRequest{ModelId: r.URL.Query().Get("model_id")})
	if err != nil {
		return err
	}
	type sample struct {
		*business.HistorySample
		Age uint32 `json:"age_milliseconds"`
	}
	samples := []sample{}
	for _, one := range past.Samples {
		samples = append(samples, sample{one, one.AgeMilliseconds})
	}
	return writeJSON(w, http.StatusOK, map[string][]sample{"samples": samples})
}
