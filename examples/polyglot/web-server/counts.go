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

// counter counts collections; all callers share a count, which continues if they stop waiting.
type counter struct {
	lock        sync.Mutex
	collections map[string]*counting
}

// counting is one count; its result is set when `done` is closed, and nil if the database failed.
type counting struct {
	done       chan struct{}
	result     *counts
	validUntil time.Time
	// The result of the count before.
	before *counts
}

func (c *counting) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *counting) isValid() bool { return !c.isDone() || time.Now().Before(c.validUntil) }

// of returns a collection's counts: valid ones, or new ones, or the previous ones if counting takes too long.
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
		c.forget()
	}
	next := &counting{done: make(chan struct{})}
	if last != nil {
		next.before = last.result
	}
	c.collections[collection] = next
	ctx = detached(ctx)
	go func() {
		began := time.Now()
		counted, err := countAll(ctx, db, collection)
		valid := shortestCount
		if took := countFactor * time.Since(began); err == nil && took > valid {
			valid = took
		}
		next.result, next.validUntil = counted, time.Now().Add(valid)
		close(next.done)
	}()
	return next
}

// forget leaves the counts that are valid.
func (c *counter) forget() {
	valid := map[string]*counting{}
	for collection, count := range c.collections {
		if count.isValid() {
			valid[collection] = count
		}
	}
	c.collections = valid
}

func countAll(ctx context.Context, db *databaseBackend, collection string) (*counts, error) {
	counted, err := count(ctx, db, collection, countByLabel)
	// There are more labels than the database groups by.
	if status.Code(err) == codes.InvalidArgument {
		return count(ctx, db, collection, countWithout)
	}
	return counted, err
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
		// Any other value than a text is no label.
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
