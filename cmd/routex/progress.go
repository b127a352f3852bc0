package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// progress shows on a terminal how far something is that takes long.
type progress struct {
	p     *program
	what  string
	whole time.Duration
	shown bool
}

const (
	progressAfter = time.Second
	progressWidth = 30
)

func (p *program) progress(what string, whole time.Duration) *progress {
	return &progress{p: p, what: what, whole: whole}
}

// show draws the bar, on stderr, if that is a terminal.
func (b *progress) show(done time.Duration) {
	f, ok := b.p.stderr.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) || done < progressAfter {
		return
	}
	full := min(progressWidth, int(float64(progressWidth)*float64(done)/float64(b.whole)))
	b.shown = true
	fmt.Fprintf(f, "\r%s [%s%s] %s of %s ", b.what, strings.Repeat("#", full), strings.Repeat(".", progressWidth-full),
		min(done, b.whole).Round(time.Second), b.whole)
}

// end removes the bar.
func (b *progress) end() {
	if b.shown {
		fmt.Fprint(b.p.stderr, "\r\x1b[K")
	}
}
