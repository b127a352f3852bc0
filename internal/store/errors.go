package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// errorClasses are the values of the label "class" of routex_store_errors_total.
var errorClasses = []string{"timeout", "refused", "loading", "readonly", "oom", "noperm", "cluster", "other"}

// classOf names what kind of trouble err is. None of them is content: each
// leaves what is served as it was.
func classOf(err error) string {
	var timeout net.Error
	text := err.Error()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case strings.HasPrefix(text, "LOADING"), strings.HasPrefix(text, "BUSY"), strings.HasPrefix(text, "MASTERDOWN"):
		return "loading"
	case strings.HasPrefix(text, "READONLY"), strings.HasPrefix(text, "MISCONF"), strings.HasPrefix(text, "NOREPLICAS"):
		return "readonly"
	case strings.HasPrefix(text, "OOM"):
		return "oom"
	case strings.HasPrefix(text, "NOPERM"), strings.HasPrefix(text, "NOAUTH"), strings.HasPrefix(text, "WRONGPASS"),
		strings.Contains(text, "The user executing the script can't"): // a command within it
		return "noperm"
	case strings.HasPrefix(text, "CLUSTERDOWN"), strings.HasPrefix(text, "MOVED"), strings.HasPrefix(text, "ASK"),
		strings.HasPrefix(text, "CROSSSLOT"), strings.HasPrefix(text, "TRYAGAIN"):
		return "cluster"
	case errors.As(err, new(*net.OpError)), errors.Is(err, io.EOF), redis.IsMaxClientsError(err):
		return "refused"
	}
	return "other"
}

// fault wraps an error of Redis: what was tried, and that Redis did not answer
// as it should. It counts it, unless the caller just gave up.
func (s *Store) fault(tried string, err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	if !errors.Is(err, context.Canceled) {
		class := classOf(err)
		s.errors.WithLabelValues(class).Inc()
		s.troubles.refuse(s.log, class, err)
	}
	return fmt.Errorf("%s: %w: %w", tried, snapshot.ErrUnavailable, err)
}

// number reads what Redis holds as a decimal; anything else counts as 0.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// millis reads Unix milliseconds; 0 is the zero time.
func millis(s string) time.Time {
	if n := number(s); n > 0 {
		return time.UnixMilli(n)
	}
	return time.Time{}
}
