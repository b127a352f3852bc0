package proxy_test

import (
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/testkit"
)

// nested is a message whose content holds content, and so on, around a text.
func nested(levels int, text string) []byte {
	return []byte(`{"model":"m","messages":[{"role":"user","content":` +
		strings.Repeat(`[{"type":"tool_result","content":`, levels-1) + `[{"type":"text","text":"` + text + `"},{"type":"image"}]` +
		strings.Repeat(`}]`, levels-1) + `}]}`)
}

func TestContentWithinContent(t *testing.T) {
	text := strings.Repeat("x", 4000)
	for _, tt := range []struct {
		levels int
		image  bool // that is seen
		said   int
	}{
		{1, true, 4000}, {2, true, 0}, {proxy.MaxContent, true, 0}, {proxy.MaxContent + 1, false, 0}, {200, false, 0},
	} {
		ask, err := proxy.ReadAsk(chatPath, nested(tt.levels, text), nil)
		if err != nil || ask.HasImages != tt.image || len(ask.Text) != tt.said || ask.Tokens < 1000 {
			t.Errorf("%d levels: %v, image %v, text of %d bytes, %d tokens", tt.levels, err, ask.HasImages, len(ask.Text), ask.Tokens)
		}
	}
}

// However deep a body nests, reading it takes no more than a few passes.
func TestReadingIsLinear(t *testing.T) {
	text := strings.Repeat("word ", testkit.Rounds(1, 4)<<20/5)
	quickest := func(levels int) time.Duration {
		body, least := nested(levels, text), time.Hour
		for range 7 {
			begin := time.Now()
			if _, err := proxy.ReadAsk(chatPath, body, nil); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(begin))
		}
		return least
	}
	shallow, deep := quickest(8), quickest(200)
	t.Logf("figure: reading %d KiB takes %v at 8 levels and %v at 200, bound 4 times as long", len(text)>>10, shallow, deep)
	if deep > 4*shallow {
		t.Errorf("200 levels take %v, 8 levels %v", deep, shallow)
	}
}

// A body of many short texts is not copied into as many pieces.
func TestReadingTakesLittleMemory(t *testing.T) {
	const bound = 2 << 20
	for name, one := range map[string]string{
		"strings":  `"a"`,
		"messages": `{"role":"user","content":"a"}`,
		"blocks":   `{"role":"user","content":[{"type":"text","text":"a"}]}`,
	} {
		n := (4 << 20) / (len(one) + 1)
		body := []byte(`{"model":"m","input":[` + strings.Repeat(one+",", n-1) + one + `]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ask, err := proxy.ReadAsk("/v1/responses", body, nil)
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		t.Logf("figure: reading %d MiB of %s allocates %d KiB, bound %d", len(body)>>20, name, took>>10, bound>>10)
		if err != nil || took > bound {
			t.Errorf("%s: %v, %d bytes allocated, bound %d", name, err, took, bound)
		}
		if ask.Tokens != n/proxy.BytesPerToken || ask.Messages != n || len(ask.Text) != min(2*n-1, proxy.MaxText-1) {
			t.Errorf("%s: %d tokens and %d messages of %d, text of %d bytes", name, ask.Tokens, ask.Messages, n, len(ask.Text))
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	for name, unit := range map[string]string{"letters": "a", "runes of three bytes": "€", "what is no UTF-8": "a\xff", "halves of runes": "\xe2\x82 "} {
		for _, sizes := range [][]int{{proxy.MaxText * 2}, {proxy.MaxText}, {proxy.MaxText - 1, 5}, {10, proxy.MaxText}, {1000, 1000, proxy.MaxText, 7}} {
			var said []string
			total := 0
			for _, n := range sizes {
				said = append(said, `{"role":"user","content":"`+strings.Repeat(unit, n/len(unit))+`"}`)
				total += n / len(unit) * len(unit)
			}
			ask, err := proxy.ReadAsk(chatPath, []byte(`{"model":"m","messages":[`+strings.Join(said, ",")+`]}`), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !utf8.ValidString(ask.Text) || len(ask.Text) > proxy.MaxText || len(ask.Text) < proxy.MaxText/3 || ask.Tokens != total/proxy.BytesPerToken {
				t.Errorf("%s, %v: text of %d bytes, %d tokens of %d bytes", name, sizes, len(ask.Text), ask.Tokens, total)
			}
		}
	}
}
