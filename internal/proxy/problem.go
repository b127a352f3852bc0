package proxy

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// class is the short name of what went wrong: the Error of a request log, and
// the choice of a status and a type in either format. The list is fixed.
type class string

const (
	classInvalid         class = "invalid_request"
	classUnauthenticated class = "unauthenticated"
	classDenied          class = "denied"
	classNoRoute         class = "no_route"
	classMethod          class = "method"
	classSlowClient      class = "slow_client"
	classTooLarge        class = "too_large"
	classEncoding        class = "encoding"
	classNoModel         class = "no_model"
	classWrongWire       class = "wrong_format"
	classResting         class = "resting"
	classUnavailable     class = "unavailable"
	classUpstream        class = "upstream"
	classTimeout         class = "timeout"
	classInternal        class = "internal"
	classLoop            class = "loop"

	// These have no answer of this gateway's own.
	classClientGone class = "client_gone"
	classBroken     class = "broken_off"
	classRefused    class = "upstream_4xx"
	classThrottled  class = "upstream_429"
	classFailing    class = "upstream_5xx"
)

// statusClientGone stands in a log for an answer nobody was there to receive.
const statusClientGone = 499

// forms says how a class is told. Types and codes are those the official
// clients turn into their errors.
var forms = map[class]struct {
	status             int
	openAI, openAICode string
	anthropic          string
}{
	classInvalid:         {400, "invalid_request_error", "invalid_request", "invalid_request_error"},
	classUnauthenticated: {401, "invalid_request_error", "invalid_api_key", "authentication_error"},
	classDenied:          {403, "invalid_request_error", "forbidden", "permission_error"},
	classNoRoute:         {404, "invalid_request_error", "unknown_url", "not_found_error"},
	classMethod:          {405, "invalid_request_error", "method_not_allowed", "invalid_request_error"},
	classSlowClient:      {408, "invalid_request_error", "request_timeout", "invalid_request_error"},
	classTooLarge:        {413, "invalid_request_error", "request_too_large", "request_too_large"},
	classEncoding:        {415, "invalid_request_error", "unsupported_encoding", "invalid_request_error"},
	classNoModel:         {404, "invalid_request_error", "model_not_found", "not_found_error"},
	classWrongWire:       {404, "invalid_request_error", "model_not_found", "not_found_error"},
	classResting:         {503, "server_error", "overloaded", "overloaded_error"},
	classUnavailable:     {503, "server_error", "unavailable", "api_error"},
	classUpstream:        {502, "server_error", "upstream_error", "api_error"},
	classTimeout:         {504, "server_error", "upstream_timeout", "timeout_error"},
	classInternal:        {500, "server_error", "internal_error", "api_error"},
	classLoop:            {508, "server_error", "loop_detected", "api_error"},
}

// statusOverloaded is how Anthropic says overloaded_error.
const statusOverloaded = 529

// problem is why a request is answered by this gateway itself. Its message is
// for the client: it holds no key, no address and no text of an upstream.
type problem struct {
	class   class
	message string
	retry   time.Duration // when trying again makes sense; 0: nothing is known
}

// unroutable says what an error of a Router means.
func unroutable(ask *snapshot.Ask, err error) *problem {
	var resting *snapshot.Resting
	model := strconv.Quote(clip(ask.Model))
	switch {
	case errors.Is(err, snapshot.ErrNoModel):
		return &problem{class: classNoModel, message: "the model " + model + " does not exist here: no enabled channel offers it"}
	case errors.Is(err, snapshot.ErrWrongWire):
		return &problem{class: classWrongWire, message: "the model " + model + " is not offered in the format of " + ask.Path}
	case errors.As(err, &resting):
		return &problem{class: classResting, retry: resting.For, message: "every channel that offers the model " + model + " is resting after failures; try again later"}
	case errors.Is(err, snapshot.ErrAllOpen):
		return &problem{class: classResting, message: "every channel that offers the model " + model + " is resting after failures; try again later"}
	}
	return &problem{class: classUnavailable, message: "this gateway cannot route requests at the moment; try again"}
}

// status is the answer's in the format wire.
func (p *problem) status(wire snapshot.Wire) int {
	if wire == snapshot.WireAnthropic && p.class == classResting {
		return statusOverloaded
	}
	return forms[p.class].status
}

type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

type anthropicError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// text is the body of the answer in the format wire.
func (p *problem) text(wire snapshot.Wire) []byte {
	form := forms[p.class]
	var v any
	if wire == snapshot.WireAnthropic {
		v = struct {
			Type  string         `json:"type"`
			Error anthropicError `json:"error"`
		}{"error", anthropicError{form.anthropic, p.message}}
	} else {
		v = struct {
			Error openAIError `json:"error"`
		}{openAIError{Message: p.message, Type: form.openAI, Code: form.openAICode}}
	}
	text, _ := json.Marshal(v) // strings only: it cannot fail
	return text
}

// event is the last event of a stream that broke off, as each format has it.
func (p *problem) event(path string) []byte {
	form := forms[p.class]
	switch path {
	case pathMessages:
		return frame("event: error\ndata: ", p.text(snapshot.WireAnthropic))
	case pathResponses:
		text, _ := json.Marshal(struct {
			Type    string  `json:"type"`
			Code    string  `json:"code"`
			Message string  `json:"message"`
			Param   *string `json:"param"`
		}{Type: "error", Code: form.openAICode, Message: p.message})
		return frame("event: error\ndata: ", text)
	}
	return frame("data: ", p.text(snapshot.WireOpenAI))
}

func frame(head string, data []byte) []byte {
	return append(append([]byte(head), data...), "\n\n"...)
}

// send answers with p.
func (p *problem) send(w http.ResponseWriter, wire snapshot.Wire) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if p.class == classUnauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="routex"`)
	}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retry.Seconds()))))
	}
	text := p.text(wire)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(p.status(wire))
	_, _ = w.Write(text) // whoever asked may be gone
}

// maxEcho is how much of a client's text comes back to it, or into a log.
const maxEcho = 200

// clip cuts s to maxEcho bytes of valid UTF-8.
func clip(s string) string {
	if len(s) <= maxEcho {
		return s
	}
	return valid(s[:maxEcho])
}
