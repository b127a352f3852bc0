package api

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// envelope is the body of every answer but /metrics.
type envelope struct {
	Success bool              `json:"success"`
	Data    any               `json:"data,omitempty"`
	Message string            `json:"message,omitempty"`
	Receipt *snapshot.Receipt `json:"receipt,omitempty"`
	Warning string            `json:"warning,omitempty"`
	Error   *failure          `json:"error,omitempty"`
}

type failure struct {
	Code    code   `json:"code"`
	Message string `json:"message"`
	Details any    `json:"details,omitempty"`
}

// reference is the detail of a failure whose reason stands in the log.
type reference struct {
	RequestID string `json:"requestId"`
}

// reading makes a handler of a call that changes nothing: it answers itself, or
// returns the error to answer.
func (a *API) reading(call func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := call(w, r); err != nil {
			a.refuse(w, r, err)
		}
	}
}

// refuse answers err, and logs it if it is ours and not the caller's.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := toProblem(err)
	if p.statusOf() >= http.StatusInternalServerError && p.cause != nil && r.Context().Err() == nil {
		level := slog.LevelWarn
		if p.code == codeInternal {
			level = slog.LevelError
		}
		a.log.Log(r.Context(), level, "API call failed", "route", routeOf(r), "code", p.code, "request", requestID(r.Context()), "err", p.cause)
	}
	if p.details == nil && p.cause != nil && p.statusOf() >= http.StatusInternalServerError {
		p.details = reference{requestID(r.Context())}
	}
	if p.code == codeUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	a.answer(w, r, p.statusOf(), envelope{Error: &failure{Code: p.code, Message: p.message, Details: p.details}})
}

// ok answers 200 with data.
func (a *API) ok(w http.ResponseWriter, r *http.Request, data any) error {
	a.answer(w, r, http.StatusOK, envelope{Success: true, Data: data})
	return nil
}

// answerWithin bounds the writing of one answer, however long the call took.
const answerWithin = 10 * time.Second

// answer writes one envelope. It is encoded whole before the status goes out,
// so that nobody gets half an answer with a 200.
func (a *API) answer(w http.ResponseWriter, r *http.Request, status int, e envelope) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		a.log.Error("API answer does not encode", "route", routeOf(r), "request", requestID(r.Context()), "err", err)
		body.Reset()
		status = http.StatusInternalServerError
		body.WriteString(`{"success":false,"error":{"code":"INTERNAL","message":"the answer could not be encoded"}}` + "\n")
	}
	// A warm may have taken longer than the server's WriteTimeout. Where the
	// writer knows no deadlines there is none to move.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerWithin))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone if this fails
}
