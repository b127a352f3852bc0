package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMeter(t *testing.T) {
	filler := strings.Repeat(`{"embedding":[0.1,0.2]},`, 20_000)
	for _, tt := range []struct {
		name                  string
		events                bool
		text                  string
		input, output, cached int64
	}{
		{"a chat", false, `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4}}}`, 10, 3, 4},
		{"a response", false, `{"output":[],"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":3},"user":"u"}`, 10, 3, 4},
		{"a message counts what was cached beside the rest", false, `{"content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"output_tokens":3}}`, 16, 3, 4},
		{"embeddings of half a megabyte", false, `{"data":[` + filler + `],"usage": {"prompt_tokens": 9, "total_tokens": 9}}`, 9, 0, 0},
		{"white space", false, "{\n  \"usage\" : {\n \"prompt_tokens\" : 9 } }", 9, 0, 0},
		{"a text that speaks of usage", false, `{"usage":{"prompt_tokens":9},"text":"\"usage\":{\"prompt_tokens\":7}"}`, 9, 0, 0},
		{"an object of that name that is none", false, `{"usage":{"prompt_tokens":9},"x":{"usage":{"a":1}}}`, 9, 0, 0},
		{"absurd counts", false, `{"usage":{"prompt_tokens":-5,"completion_tokens":1e300}}`, 0, 1 << 30, 0},
		{"no usage", false, `{"a":"usage"}`, 0, 0, 0},
		{"usage cut short", false, `{"usage":{"prompt_tokens":9,"comp`, 9, 0, 0},
		{"a chat's stream", true, "data: {\"choices\":[{}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n", 10, 3, 0},
		{"a message's stream", true, "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\r\n\r\nevent: message_delta\r\ndata: {\"usage\":{\"output_tokens\":30}}\r\n\r\n", 14, 30, 4},
		{"a response's stream, whose last event is long", true, "data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\ndata: {\"response\":{\"output\":[" + filler + "],\"usage\":{\"input_tokens\":10,\"output_tokens\":3,\"input_tokens_details\":{\"cached_tokens\":2}}}}\n\n", 10, 3, 2},
		{"a stream without a newline at its end", true, `data: {"usage":{"prompt_tokens":9}}`, 9, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chance := testkit.Random(t)
			for range 20 {
				var pieces [][]byte
				for rest := []byte(tt.text); len(rest) > 0; {
					n := min(len(rest), 1+chance.IntN(1<<chance.IntN(16)))
					pieces, rest = append(pieces, rest[:n]), rest[n:]
				}
				input, output, cached, kept := proxy.Meter(tt.events, pieces...)
				if input != tt.input || output != tt.output || cached != tt.cached {
					t.Fatalf("in %d pieces: got %d, %d, %d, want %d, %d, %d", len(pieces), input, output, cached, tt.input, tt.output, tt.cached)
				}
				if kept > 4*proxy.MaxTail {
					t.Fatalf("it kept %d bytes", kept)
				}
			}
		})
	}
}

func TestMeterIsNotFooledIntoSlowness(t *testing.T) {
	// Each occurrence is looked at once, and so is each byte.
	text := []byte(strings.Repeat(`"usage":{`, 8<<10))
	if input, _, _, kept := proxy.Meter(false, text); input != 0 || kept > 4*proxy.MaxTail {
		t.Errorf("got %d, kept %d bytes", input, kept)
	}
}

func BenchmarkMeter(b *testing.B) {
	for _, size := range []int{100, 30_000} {
		piece := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", size) + "\"}}],\"usage\":null}\n\n")
		b.Run(fmt.Sprintf("an event of %d bytes", len(piece)), func(b *testing.B) {
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			for b.Loop() {
				proxy.Meter(true, piece)
			}
		})
	}
}
