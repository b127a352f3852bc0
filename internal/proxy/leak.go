package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Of an answer that refuses, maxRefusal bytes are looked at before any is passed
// on: some upstreams quote the key that they do not like.
const maxRefusal = 64 << 10

const (
	leastKey  = 8  // of fewer bytes a key could stand anywhere by chance
	keyBody   = 12 // so much behind its prefix gives a key away
	keyPrefix = 16 // a prefix such as sk-ant-api03- ends within so much
)

// leak is what a channel's key must not be recognised by: all of it, or its
// beginning where that is more than a prefix. Empty: there is nothing to find.
type leak string

// newLeak returns what to look for.
func newLeak(key snapshot.Secret) leak {
	s := strings.TrimSpace(key.Reveal())
	if len(s) < leastKey {
		return ""
	}
	prefix := strings.LastIndexAny(s[:min(len(s), keyPrefix)], "-_.") + 1
	return leak(s[:min(len(s), prefix+keyBody)])
}

// inBytes reports whether text holds it, as it is or in a string of JSON.
func (l leak) inBytes(text []byte) bool {
	if l == "" {
		return false
	}
	quoted, _ := json.Marshal(l) // a string: it cannot fail
	return bytes.Contains(text, []byte(l)) || bytes.Contains(text, quoted[1:len(quoted)-1])
}

func (l leak) inAny(values []string) bool {
	for _, v := range values {
		if l != "" && strings.Contains(v, string(l)) {
			return true
		}
	}
	return false
}

// copyHeader copies from an upstream's answer what travels back, without what
// holds the key.
func (l leak) copyHeader(to, from http.Header) {
	for key, values := range from {
		if back(key) && !l.inAny(values) {
			to[key] = values
		}
	}
}

// beginning reads what an answer begins with: its first piece, or of one that
// refuses as much as is looked at. It returns no bytes and an error other than
// io.EOF if there is no answer.
func (t *trip) beginning(a *attempt) ([]byte, error) {
	if a.answer.StatusCode < http.StatusBadRequest {
		n, err := a.answer.Body.Read(t.relay.buf[:])
		for n == 0 && err == nil {
			n, err = a.answer.Body.Read(t.relay.buf[:])
		}
		return t.relay.buf[:n], err
	}
	a.watch.Reset(t.p.o.Refusal)
	text, err := io.ReadAll(io.LimitReader(a.answer.Body, maxRefusal))
	if err == nil && len(text) < maxRefusal {
		err = io.EOF
	}
	return text, err
}
