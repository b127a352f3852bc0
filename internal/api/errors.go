package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// code is the machine-readable part of a failure.
type code string

const (
	codeInvalid         code = "INVALID_ARGUMENT"
	codeUnauthenticated code = "UNAUTHENTICATED"
	codeForbidden       code = "FORBIDDEN"
	codeNotFound        code = "NOT_FOUND"
	codeConflict        code = "CONFLICT"
	codePrecondition    code = "PRECONDITION_FAILED"
	codeTooLarge        code = "TOO_LARGE"
	codeMediaType       code = "UNSUPPORTED_MEDIA_TYPE"
	codeRejected        code = "REJECTED"
	codeRateLimited     code = "RATE_LIMITED"
	codeInternal        code = "INTERNAL"
	codeUnavailable     code = "UNAVAILABLE"
	codeNotConverged    code = "NOT_CONVERGED"
)

// statuses gives each code its status. Only a 405 departs from it.
var statuses = map[code]int{
	codeInvalid:         http.StatusBadRequest,
	codeUnauthenticated: http.StatusUnauthorized,
	codeForbidden:       http.StatusForbidden,
	codeNotFound:        http.StatusNotFound,
	codeConflict:        http.StatusConflict,
	codePrecondition:    http.StatusPreconditionFailed,
	codeTooLarge:        http.StatusRequestEntityTooLarge,
	codeMediaType:       http.StatusUnsupportedMediaType,
	codeRejected:        http.StatusUnprocessableEntity,
	codeRateLimited:     http.StatusTooManyRequests,
	codeInternal:        http.StatusInternalServerError,
	codeUnavailable:     http.StatusServiceUnavailable,
	codeNotConverged:    http.StatusGatewayTimeout,
}

// conditions says which code answers a condition; the first that holds counts.
// says replaces the error's own text where that would tell of the inside.
var conditions = []struct {
	is   error
	code code
	says string
}{
	{snapshot.ErrUnavailable, codeUnavailable, "Redis or the source did not answer; repeat the call"},
	{context.DeadlineExceeded, codeUnavailable, "the call took too long; repeat it"},
	{context.Canceled, codeUnavailable, "the call was given up"},
	{snapshot.ErrUnknown, codeUnavailable, "Redis holds no head yet; repeat the call after the next warm"},
	{snapshot.ErrStale, codeUnavailable, "another warm was faster; repeat the call"},
	{snapshot.ErrLeaseLost, codeUnavailable, "the warm lost its lock; repeat the call"},
	{snapshot.ErrLineage, codeRejected, ""},
	{snapshot.ErrNotFound, codeNotFound, ""},
	{snapshot.ErrConflict, codeConflict, ""},
	{snapshot.ErrDisabled, codeConflict, "the cache is disabled; enable it with PUT /api/cache/config"},
	{snapshot.ErrPinned, codeConflict, ""},
	{snapshot.ErrPrecondition, codePrecondition, "it changed since you read it; read it again"},
}

// problem is an error that knows its answer.
type problem struct {
	code    code
	status  int // 0: the code's own
	message string
	details any
	cause   error // for the log; nil when the message says it all
}

// Error is the message the caller sees.
func (p *problem) Error() string { return p.message }

// Unwrap lets code that the problem travels through see bad input as such.
func (p *problem) Unwrap() error {
	if p.code == codeInvalid {
		return snapshot.ErrInvalid
	}
	return p.cause
}

// fail returns a problem with that code.
func fail(c code, format string, args ...any) *problem {
	return &problem{code: c, message: fmt.Sprintf(format, args...)}
}

// field is the detail of a problem with one field of a body or query.
type field struct {
	Path string `json:"path"`
}

// badField returns the problem of the field at path. The message begins with
// the path.
func badField(path, format string, args ...any) *problem {
	return &problem{
		code:    codeInvalid,
		message: path + " " + fmt.Sprintf(format, args...), // path may hold a '%'
		details: field{Path: path},
	}
}

// leadingPath is the field that the checks of package snapshot begin with, as
// in "condition.keywords[3] is blank: invalid".
var leadingPath = regexp.MustCompile(`^([a-z]\w*(?:\.\w+|\[\d+\])*) (?:is|has|does) `)

// fieldOf gives an error of a check in package snapshot the path it names.
func fieldOf(err error) error {
	if err == nil {
		return nil
	}
	p := toProblem(badValues(err))
	if m := leadingPath.FindStringSubmatch(p.message); m != nil && p.code == codeInvalid {
		p.details = field{Path: m[1]}
	}
	return p
}

// badValues blames the caller for values that a check or the source would not
// take. Anywhere else ErrInvalid is about something stored that is damaged, and
// the caller has done nothing wrong.
func badValues(err error) error {
	if !unanswered(err) {
		return err
	}
	return &problem{code: codeInvalid, message: strings.Replace(err.Error(), ": "+snapshot.ErrInvalid.Error(), "", 1), cause: err}
}

// unanswered reports an ErrInvalid of which nobody has said yet whose fault it is.
func unanswered(err error) bool {
	_, known := errors.AsType[*problem](err)
	return !known && errors.Is(err, snapshot.ErrInvalid)
}

// refusals is the detail of a warm or write that guards turned down.
type refusals struct {
	Refusals []*snapshot.Refusal     `json:"refusals"`
	Tags     map[string]snapshot.Tag `json:"tags,omitempty"` // kinds that were published all the same
}

// toProblem finds the answer to err. What nothing here knows is an INTERNAL
// whose text stays in the log.
func toProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if list, ok := errors.AsType[snapshot.Refused](err); ok {
		return &problem{code: codeRejected, message: list.Error(), details: refusals{Refusals: list}}
	}
	if one, ok := errors.AsType[*snapshot.Refusal](err); ok {
		return &problem{code: codeRejected, message: one.Error(), details: refusals{Refusals: []*snapshot.Refusal{one}}}
	}
	for _, c := range conditions {
		if !errors.Is(err, c.is) {
			continue
		}
		return &problem{code: c.code, message: cmp.Or(c.says, err.Error()), cause: err}
	}
	return &problem{code: codeInternal, message: "something broke inside; the log tells it under this request id", cause: err}
}

// statusOf is the status the problem is answered with.
func (p *problem) statusOf() int {
	if p.status != 0 {
		return p.status
	}
	return statuses[p.code]
}

// clip keeps text that the caller sent from filling an answer.
func clip(s string, bytes int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= bytes {
		return s
	}
	return strings.ToValidUTF8(s[:bytes], "") + "…"
}
