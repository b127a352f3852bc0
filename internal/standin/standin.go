package standin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// Options of a stand-in.
type Options struct {
	Name  string        // what answers call themselves; "stand-in"
	Key   string        // the credential that is asked for; "": none is
	Pause time.Duration // between two events of a stream
	// Observe is called with each request it answers, and its body. It may be nil.
	Observe func(r *http.Request, body []byte)
}

// maxBody is the largest request that is read.
const maxBody = 64 << 20

// New returns the stand-in as a handler. It keeps no state.
func New(o Options) http.Handler {
	if o.Name == "" {
		o.Name = "stand-in"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &reply{o: o, w: w, r: r, anthropic: strings.HasSuffix(r.URL.Path, "/messages")}
		s.serve()
	})
}

// reply is one answer in the making.
type reply struct {
	o         Options
	w         http.ResponseWriter
	r         *http.Request
	anthropic bool
	id        string // the same for the same request
	ask       ask
}

func (s *reply) serve() {
	body, err := io.ReadAll(io.LimitReader(s.r.Body, maxBody))
	if err != nil {
		return // nobody is there to read an answer
	}
	if s.o.Observe != nil {
		s.o.Observe(s.r, body)
	}
	sum := sha256.Sum256(body)
	s.id = hex.EncodeToString(sum[:8])
	header := "X-Request-Id"
	if s.anthropic {
		header = "Request-Id"
	}
	s.w.Header().Set(header, "req_"+s.id)
	if s.o.Key != "" && s.credential() != s.o.Key {
		s.refuse(http.StatusUnauthorized, "authentication_error", "this stand-in does not know the key")
		return
	}
	answers := map[string]func(){
		"/chat/completions": s.chat, "/responses": s.responses, "/embeddings": s.embeddings, "/messages": s.messages,
	}
	for suffix, answer := range answers {
		if !strings.HasSuffix(s.r.URL.Path, suffix) || s.r.Method != http.MethodPost {
			continue
		}
		if err := json.Unmarshal(body, &s.ask); err != nil || s.ask.Model == "" {
			s.refuse(http.StatusBadRequest, "invalid_request_error", "the body is not a request with a model")
			return
		}
		answer()
		return
	}
	s.refuse(http.StatusNotFound, "not_found_error", "this stand-in has no such route")
}

// credential is what the request brought, in any of the three ways.
func (s *reply) credential() string {
	h := s.r.Header
	for _, name := range []string{"X-Api-Key", "Api-Key"} {
		if key := h.Get(name); key != "" {
			return key
		}
	}
	return strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
}

// dict is a JSON object.
type dict = map[string]any

func (s *reply) json(status int, v any) {
	s.w.Header().Set("Content-Type", "application/json")
	s.w.WriteHeader(status)
	_ = json.NewEncoder(s.w).Encode(v) // whoever asked may be gone
}

func (s *reply) refuse(status int, kind, message string) {
	if s.anthropic {
		s.json(status, dict{"type": "error", "error": dict{"type": kind, "message": message}})
		return
	}
	s.json(status, dict{"error": dict{"message": message, "type": kind, "param": nil, "code": nil}})
}

// event sends one event of a stream, with its name if it has one, and reports
// false when nobody listens any more.
func (s *reply) event(name string, v any) bool {
	if s.o.Pause > 0 {
		select {
		case <-time.After(s.o.Pause):
		case <-s.r.Context().Done():
			return false
		}
	}
	text, ok := v.(string)
	if !ok {
		encoded, _ := json.Marshal(v) // made of strings and numbers
		text = string(encoded)
	}
	if name != "" {
		name = "event: " + name + "\n"
	}
	s.w.Header().Set("Content-Type", "text/event-stream")
	if _, err := io.WriteString(s.w, name+"data: "+text+"\n\n"); err != nil {
		return false
	}
	return http.NewResponseController(s.w).Flush() == nil
}

// events sends a list until nobody listens.
func (s *reply) events(list []named) {
	for _, e := range list {
		if !s.event(e.name, e.data) {
			return
		}
	}
}

// named is an event.
type named struct {
	name string
	data any
}
