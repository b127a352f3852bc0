package api

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer returns a server with limits on all a client can hold on to:
// headers, body, time. It starts nothing.
//
// WriteTimeout covers the longest ?timeoutMs; an answer that took longer still
// gets its time, see API.answer. The data plane has limits of its own, see streaming. net/http admits 4 KiB of headers more than
// MaxHeaderBytes says.
func NewServer(addr string, handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           handler,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      maxWait + answerWithin,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
