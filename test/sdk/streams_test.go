package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/routex/cachewarmer/internal/testkit"
)

// score is a stream as an upstream plays it: each part is one event for the
// client, and one write of the upstream.
type score struct {
	name string
	kind string
	open func(ctx context.Context, s *seat, model string) player
	// whole asks for an answer that is not streamed.
	whole func(ctx context.Context, s *seat, model string) (heard, error)
	parts []string
	// broken recognizes the error of a stream that the upstream left between two
	// events; said is how many events the client has seen by then.
	broken func(err error) bool
	said   int
}

// player is any client's stream.
type player interface {
	Next() bool
	Err() error
	Close() error
	now() string // the event at which it stands
}

type playing[S interface {
	Next() bool
	Err() error
	Close() error
	Current() T
}, T interface{ RawJSON() string }] struct{ s S }

func (p playing[S, T]) Next() bool   { return p.s.Next() }
func (p playing[S, T]) Err() error   { return p.s.Err() }
func (p playing[S, T]) Close() error { return p.s.Close() }
func (p playing[S, T]) now() string  { return p.s.Current().RawJSON() }

func chunkOf(delta, end string) string {
	return `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{` + delta + `},"finish_reason":null}]}` + end
}

func eventOf(kind, rest string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + rest + "}\n\n"
}

var scores = []score{
	{
		name: "a chat", kind: "openai", whole: chat, said: 2,
		open: func(ctx context.Context, s *seat, model string) player {
			return play(s.openAI.Chat.Completions.NewStreaming(ctx, chatParams(model, "Hello")))
		},
		parts: []string{
			chunkOf(`"role":"assistant","content":""`, "\n\n"), chunkOf(`"content":"One \"usage\" "`, "\n\n"),
			": a comment\n\n" + chunkOf(`"content":"世"`, "\r\n\r\n"), chunkOf(`"content":"."`, "\n\ndata: [DONE]\n\n"),
		},
		broken: func(err error) bool {
			var told *ssestream.StreamError
			return errors.As(err, &told) && strings.Contains(told.Message, "broke off") && strings.Contains(string(told.Event.Data), "upstream_error")
		},
	},
	{
		name: "a response", kind: "openai", whole: response, said: 3, // the error is an event of its own
		open: func(ctx context.Context, s *seat, model string) player {
			return play(s.openAI.Responses.NewStreaming(ctx, responseParams(model, "Hello")))
		},
		parts: []string{
			eventOf("response.created", `,"sequence_number":0`), eventOf("response.output_text.delta", `,"sequence_number":1,"delta":"One "`),
			eventOf("response.output_text.delta", `,"sequence_number":2,"delta":"世"`), eventOf("response.completed", `,"sequence_number":3`),
		},
		broken: func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) },
	},
	{
		name: "a message", kind: "anthropic", whole: message, said: 2,
		open: func(ctx context.Context, s *seat, model string) player {
			return play(s.anthropic.Messages.NewStreaming(ctx, messageParams(model, anthropic.NewTextBlock("Hello"))))
		},
		parts: []string{
			eventOf("message_start", `,"message":{"id":"m1","type":"message","role":"assistant","content":[],"usage":{"input_tokens":1,"output_tokens":1}}`),
			eventOf("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`),
			eventOf("ping", "") + eventOf("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"世"}`),
			eventOf("message_stop", ""),
		},
		broken: func(err error) bool {
			var told *anthropic.Error
			return errors.As(err, &told) && told.Type() == "api_error" && strings.Contains(told.RawJSON(), "broke off")
		},
	},
}

func play[S interface {
	Next() bool
	Err() error
	Close() error
	Current() T
}, T interface{ RawJSON() string }](s S) player {
	return playing[S, T]{s}
}

// begin sends the head of a stream.
func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
}

// send writes one part, and reports whether somebody is there to read it.
func send(w http.ResponseWriter, part string) bool {
	if _, err := io.WriteString(w, part); err != nil {
		return false
	}
	return http.NewResponseController(w).Flush() == nil
}

// eventsAreNotHeld has an upstream that makes an event only after the client has
// seen the one before.
func eventsAreNotHeld(t *testing.T, r *rig) {
	for i, sc := range scores {
		t.Run(sc.name, func(t *testing.T) {
			seen := make(chan struct{})
			up := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				for i, part := range sc.parts {
					if i > 0 {
						select {
						case <-seen:
						case <-r.Context().Done():
							return
						}
					}
					if !send(w, part) {
						return
					}
				}
			}))
			model := fmt.Sprintf("step-by-step-%d", i)
			r.channel(t, sc.kind, up.url, 0, model)
			var first []string
			for _, s := range append([]*seat{straight(t, up)}, r.seats(t, 0)...) {
				ctx := within(t)
				stream := sc.open(ctx, s, model)
				var got []string
				for stream.Next() {
					if got = append(got, stream.now()); len(got) < len(sc.parts) {
						select {
						case seen <- struct{}{}:
						case <-ctx.Done():
						}
					}
				}
				if first == nil {
					first = got
				}
				if err := stream.Err(); err != nil || len(got) != len(sc.parts) || !slices.Equal(got, first) {
					t.Errorf("%s: %d of %d events, %v:\n%q", s.name, len(got), len(sc.parts), err, got)
				}
				_ = stream.Close()
			}
		})
	}
}

func cutsAreSeen(t *testing.T, r *rig) {
	for i, sc := range scores {
		for _, tt := range []struct {
			name string
			play func(w http.ResponseWriter)
			do   func(t *testing.T, s *seat, model string)
		}{
			{
				"between two events",
				func(w http.ResponseWriter) { begin(w); send(w, sc.parts[0]+sc.parts[1]) },
				func(t *testing.T, s *seat, model string) {
					got, err := listen(within(t), sc, s, model)
					if len(got) != sc.said || !sc.broken(err) {
						t.Errorf("%d events %q, %v", len(got), got, err)
					}
				},
			},
			{
				"in the midst of an event",
				func(w http.ResponseWriter) {
					begin(w)
					send(w, sc.parts[0]+sc.parts[1]+sc.parts[2][:len(sc.parts[2])-7])
				},
				func(t *testing.T, s *seat, model string) {
					got, err := listen(within(t), sc, s, model)
					if len(got) != 2 || !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%d events %q, %v", len(got), got, err)
					}
				},
			},
			{
				"in the midst of an answer that is not streamed",
				func(w http.ResponseWriter) {
					w.Header().Set("Content-Type", "application/json")
					// It looks whole, but nobody can know.
					send(w, `{"id":"x","choices":[{"message":{"content":"y"}}],"output":[],"content":[{"type":"text","text":"y"}]}`)
				},
				func(t *testing.T, s *seat, model string) {
					if _, err := sc.whole(within(t), s, model); !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%v", err)
					}
				},
			},
		} {
			t.Run(sc.name+" "+tt.name, func(t *testing.T) {
				up := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					tt.play(w)
					panic(http.ErrAbortHandler) // closes the connection without the mark of an end
				}))
				model := fmt.Sprintf("breaks-off-%d-%s", i, strings.ReplaceAll(tt.name, " ", "-"))
				r.channel(t, sc.kind, up.url, 0, model)
				for _, s := range r.seats(t, 0) {
					t.Run(s.name, func(t *testing.T) { tt.do(t, s, model) })
				}
			})
		}
	}
}

// listen takes in a stream to its end, whatever that is.
func listen(ctx context.Context, sc score, s *seat, model string) (got []string, err error) {
	stream := sc.open(ctx, s, model)
	for stream.Next() {
		got = append(got, stream.now())
	}
	return got, stream.Err()
}

func cancellationTravels(t *testing.T, r *rig) {
	for i, sc := range scores {
		began, over := make(chan struct{}, 1), make(chan struct{}, 1)
		up := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); bytes.Contains(body, []byte(`"stream":true`)) {
				begin(w)
				send(w, sc.parts[0])
			}
			began <- struct{}{}
			<-r.Context().Done()
			over <- struct{}{}
		}))
		model := fmt.Sprintf("endless-%d", i)
		r.channel(t, sc.kind, up.url, 0, model)
		seats := r.seats(t, 0)
		for _, tt := range []struct {
			name string
			do   func(t *testing.T, s *seat)
		}{
			{"cancelled before the answer begins", func(t *testing.T, s *seat) {
				ctx, cancel := context.WithCancel(within(t))
				go func() { <-began; cancel() }()
				if _, err := sc.whole(ctx, s, model); !errors.Is(err, context.Canceled) {
					t.Errorf("the client says %v", err)
				}
			}},
			{"cancelled after the first event", func(t *testing.T, s *seat) {
				ctx, cancel := context.WithCancel(within(t))
				stream := sc.open(ctx, s, model)
				if !stream.Next() {
					t.Fatal(stream.Err())
				}
				<-began
				cancel()
				if stream.Next() || !errors.Is(stream.Err(), context.Canceled) {
					t.Errorf("the client says %v", stream.Err())
				}
			}},
			{"closed after the first event", func(t *testing.T, s *seat) {
				stream := sc.open(within(t), s, model)
				if !stream.Next() {
					t.Fatal(stream.Err())
				}
				<-began
				_ = stream.Close()
			}},
		} {
			for _, s := range seats {
				t.Run(sc.name+" "+tt.name+" "+s.name, func(t *testing.T) {
					tt.do(t, s)
					select {
					case <-over:
					case <-time.After(patience):
						t.Error("the upstream goes on")
					}
				})
			}
		}
		gone := 3 * len(seats)
		testkit.Eventually(t, 10*time.Second, "the log says that the clients left", func() (err error) {
			var n int
			err = r.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM request_logs WHERE model = $1 AND error = 'client_gone' AND NOT success`, model).Scan(&n)
			if err == nil && n != gone {
				err = fmt.Errorf("%d of %d requests", n, gone)
			}
			return err
		})
	}
}
