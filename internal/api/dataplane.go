package api

import (
	"net/http"
	"strings"
	"time"
)

// dataPlanePrefix is what paths of the data plane begin with.
const dataPlanePrefix = "/v1/"

// Limits of a request to the data plane. They take the place of the server's,
// which would cut an answer off that streams for longer.
const (
	bodyWithin  = 2 * time.Minute // a body has to be there
	stallWithin = time.Minute     // one write may wait for the client; an answer may take as long as it likes
	extendAfter = time.Second     // how often the second limit is moved: not for every event
)

// streaming gives the data plane limits of its own.
func streaming(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &streamWriter{ResponseWriter: w, rc: http.NewResponseController(w)}
		// Where the writer knows no deadlines there are none to move.
		if r.Body != nil && r.Body != http.NoBody { // net/http lifts it at the body's end
			_ = s.rc.SetReadDeadline(time.Now().Add(bodyWithin))
		}
		s.extend()
		next.ServeHTTP(s, r)
		s.until = time.Time{}
		s.extend() // the server has yet to write what is left
	})
}

// streamWriter bounds each write, and not the answer.
type streamWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	until time.Time
}

// extend moves the deadline of writes, unless it was moved a moment ago.
func (s *streamWriter) extend() {
	now := time.Now()
	if s.until.Sub(now) > stallWithin-extendAfter {
		return
	}
	s.until = now.Add(stallWithin)
	_ = s.rc.SetWriteDeadline(s.until)
}

func (s *streamWriter) Write(p []byte) (int, error) {
	s.extend()
	return s.ResponseWriter.Write(p)
}

// FlushError sends what was written to the client.
func (s *streamWriter) FlushError() error {
	s.extend()
	return s.rc.Flush()
}

// Flush is FlushError for those who know only http.Flusher.
func (s *streamWriter) Flush() { _ = s.FlushError() }

// Unwrap lets an http.ResponseController reach the connection.
func (s *streamWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// withCredentials reports whether r brings a key in a header that a page of
// another site cannot send without asking first, which is never granted. Programs
// that are browsers inside send an Origin, and are no such pages.
func withCredentials(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, dataPlanePrefix) &&
		(r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "")
}
