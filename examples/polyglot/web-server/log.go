package main

import (
	"bytes"
	"encoding/json"
	"os"
	"time"
)

type level int

const (
	levelOff level = iota
	levelError
	levelWarn
	levelInfo
	levelDebug
	levelTrace
)

var levelNames = []string{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"}

// logLevel is set once, at start.
var logLevel = levelInfo

// logLine writes a JSON object in one line: time, level, message, and pairs of a name and a value. Empty texts are left
// out.
func logLine(l level, message string, pairs ...interface{}) {
	if l > logLevel {
		return
	}
	var line bytes.Buffer
	write := func(before, name string, value interface{}) {
		if value == "" {
			return
		}
		text, err := json.Marshal(value)
		if err != nil {
			text = []byte(`"unprintable"`)
		}
		line.WriteString(before + `"` + name + `":`)
		line.Write(text)
	}
	write("{", "timestamp", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
	write(",", "level", levelNames[l])
	write(",", "message", message)
	for i := 0; i+1 < len(pairs); i += 2 {
		write(",", pairs[i].(string), pairs[i+1])
	}
	line.WriteString("}\n")
	// There is nowhere to report that standard output is closed.
	_, _ = os.Stdout.Write(line.Bytes())
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since).Microseconds()) / 1e3
}
