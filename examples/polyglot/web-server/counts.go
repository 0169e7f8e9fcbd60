package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pb/database"
)

const (
	// A count is valid for this many times the time it took, so counting stays a small part of the database's load.
	countFactor   = 20
	shortestCount = time.Second
	mostLabels    = 1000
	// The most collections whose counts are kept.
	mostCounted  = 64
	countByLabel = `{"$group": {"_id": "$label", "documents": {"$count": {}}}}`
	countWithout = `{"$count": "documents"}`
)

// counts are the number of documents in a collection, in all and by label.
type counts struct {
	documents uint64
	byLabel   map[string]uint64
}

// counter counts collections. All callers share a count, which continues if they stop waiting.
type counter struct {
	lock        sync.Mutex
	collections map[string]*counting
}

// counting is one count. The result is nil if the database failed.
type counting struct {
	done       chan struct{}
	result     *counts
	validUntil time.Time
	// The last result before it.
	before *counts
}

// of returns a collection's counts: valid ones, or new ones, or the ones before if counting takes longer than the caller
// waits.
func (c *counter) of(ctx context.Context, db *databaseBackend, collection string) *counts {
	current := c.current(ctx, db, collection)
	select {
	case <-current.done:
		return current.result
	case <-ctx.Done():
		return current.before
	}
}

func (c *counter) current(ctx context.Context, db *databaseBackend, collection string) *counting {
	c.lock.Lock()
	defer c.lock.Unlock()
	last := c.collections[collection]
	if last != nil && last.isValid() {
		return last
	}
	if c.collections == nil || len(c.collections) >= mostCounted {
		c.collections = map[string]*counting{}
	}
	current := &counting{done: make(chan struct{})}
	if last != nil {
		current.before = last.result
	}
	c.collections[collection] = current
	go current.run(detached(ctx), db, collection)
	return current
}

func (c *counting) isValid() bool {
	select {
	case <-c.done:
		return time.Now().Before(c.validUntil)
	default:
		return true
	}
}

func (c *counting) run(ctx context.Context, db *databaseBackend, collection string) {
	began := time.Now()
	counted, err := count(ctx, db, collection, countByLabel)
	// There are more labels than the database groups by.
	if status.Code(err) == codes.InvalidArgument {
		counted, err = count(ctx, db, collection, countWithout)
	}
	valid := shortestCount
	if took := countFactor * time.Since(began); err == nil && took > valid {
		valid = took
	}
	c.result, c.validUntil = counted, time.Now().Add(valid)
	close(c.done)
}

func count(ctx context.Context, db *databaseBackend, collection, query string) (*counts, error) {
	counted := &counts{byLabel: map[string]uint64{}}
	err := db.query(ctx, collection, query, func(result *database.QueryResponse) error {
		var group struct {
			Label     interface{} `json:"_id"`
			Documents uint64      `json:"documents"`
		}
		if err := json.Unmarshal([]byte(result.Data), &group); err != nil {
			return internal(ctx, "failed to read a group of documents", err)
		}
		counted.documents += group.Documents
		// A value that is not a text is not a label.
		if label, ok := group.Label.(string); ok && len(counted.byLabel) < mostLabels {
			counted.byLabel[label] = group.Documents
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counted, nil
}
