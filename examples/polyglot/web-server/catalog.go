package main

import (
	"context"
	"encoding/json"
	"errors"
	"sort"
	"strconv"
	"sync"

	"pb/database"
)

const (
	catalogCollection = "web-collections"
	mostCollections   = 1000
)

var errFound = errors.New("found")

// catalog is the collections that this service knows, which the database cannot list. Each is a document `{"name"}` of
// the collection `web-collections`, so the list survives restarts.
type catalog struct {
	lock  sync.Mutex
	noted map[string]bool
}

type catalogEntry struct {
	Name string `json:"name"`
}

// note records in the background that a collection has documents.
func (c *catalog) note(ctx context.Context, db *databaseBackend, collection string) {
	if collection == catalogCollection || !c.add(collection) {
		return
	}
	ctx = detached(ctx)
	go func() {
		if err := record(ctx, db, collection); err != nil {
			logLine(levelWarn, "failed to record the collection", "collection", collection, "error", err.Error())
			c.lock.Lock()
			defer c.lock.Unlock()
			delete(c.noted, collection)
		}
	}()
}

func (c *catalog) add(collection string) (added bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.noted == nil {
		c.noted = map[string]bool{}
	}
	added = !c.noted[collection]
	c.noted[collection] = true
	return added
}

func record(ctx context.Context, db *databaseBackend, collection string) error {
	entry := toJSON(catalogEntry{collection})
	err := db.query(ctx, catalogCollection, entry, func(*database.QueryResponse) error { return errFound })
	if err == nil {
		_, err = db.create(ctx, catalogCollection, entry)
	}
	if err == errFound {
		return nil
	}
	return err
}

// list returns all known collections in alphabetical order.
func (c *catalog) list(ctx context.Context, db *databaseBackend) ([]string, error) {
	known := map[string]bool{}
	query := `{"$limit":` + strconv.Itoa(mostCollections) + `}`
	err := db.query(ctx, catalogCollection, query, func(document *database.QueryResponse) error {
		var entry catalogEntry
		if json.Unmarshal([]byte(document.Data), &entry) == nil && entry.Name != "" {
			known[entry.Name] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	for name := range c.noted {
		known[name] = true
	}
	sorted := make([]string, 0, len(known))
	for name := range known {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	return sorted, nil
}
