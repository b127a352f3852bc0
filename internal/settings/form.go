package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// form reads and shows the values of one setting. The error of set is a fault
// as Error.Fault wants it: it follows "which".
type form struct {
	kind string // one word, for help
	want string // the form expected, for people
	list bool   // several values, which a file may also give as a sequence
	// blank: an empty variable is a value. For every other setting it counts
	// as not given, because that is how compose files pass unset ones on.
	blank bool
	set   func(*Settings, string) error
	show  func(*Settings) string
}

// field makes a form of a parser, a printer and a place in Settings.
func field[T any](kind, want string, at func(*Settings) *T, parse func(string) (T, error), show func(T) string) form {
	return form{
		kind: kind,
		want: want,
		set: func(s *Settings, given string) error {
			v, err := parse(given)
			if err == nil {
				*at(s) = v
			}
			return err
		},
		show: func(s *Settings) string { return show(*at(s)) },
	}
}

// optional lets an empty value stand for the default meaning.
func optional(f form) form {
	set := f.set
	f.set = func(s *Settings, given string) error {
		if given == "" {
			return nil
		}
		return set(s, given)
	}
	return f
}

// blank makes an empty variable a value of its own.
func blank(f form) form {
	f.blank = true
	return f
}

func asIs(s string) string { return s }

// text takes any line.
func text(kind, want string, at func(*Settings) *string) form {
	return field(kind, want, at, func(given string) (string, error) {
		return given, oneLine(given)
	}, asIs)
}

// oneLine refuses what would break a log line or a path.
func oneLine(given string) error {
	if strings.ContainsFunc(given, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("holds a control character")
	}
	return nil
}

func boolean(at func(*Settings) *bool) form {
	return field("bool", "true or false", at, func(given string) (bool, error) {
		v, err := strconv.ParseBool(given)
		if err != nil {
			return false, errors.New("is neither true nor false")
		}
		return v, nil
	}, strconv.FormatBool)
}

// oneOf takes one of a few words.
func oneOf[T ~string](at func(*Settings) *T, words ...T) form {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	return field("word", strings.Join(names, " or "), at, func(given string) (T, error) {
		for _, w := range words {
			if strings.EqualFold(given, string(w)) {
				return w, nil
			}
		}
		return "", errors.New("is no such word")
	}, func(v T) string { return string(v) })
}

func logLevel() form {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	at := func(s *Settings) *slog.Level { return &s.LogLevel }
	return field("word", "debug, info, warn or error", at, func(given string) (slog.Level, error) {
		v, ok := levels[strings.ToLower(given)]
		if !ok {
			return 0, errors.New("is no such level")
		}
		return v, nil
	}, func(v slog.Level) string { return strings.ToLower(v.String()) })
}

func duration(least, most time.Duration, at func(*Settings) *time.Duration) form {
	want := fmt.Sprintf("%s to %s, such as 1500ms", briefly(least), briefly(most))
	return field("duration", want, at, func(given string) (time.Duration, error) {
		v, err := time.ParseDuration(given)
		if err != nil {
			if _, plain := strconv.ParseFloat(given, 64); plain == nil {
				return 0, errors.New("has no unit")
			}
			return 0, errors.New("is not a duration")
		}
		return v, within(v, least, most, briefly)
	}, briefly)
}

// durationOrNever is duration, and 0s for "never".
func durationOrNever(least, most time.Duration, at func(*Settings) *time.Duration) form {
	f := duration(least, most, at)
	f.want = "0s, or " + f.want
	set := f.set
	f.set = func(s *Settings, given string) error {
		if v, err := time.ParseDuration(given); err == nil && v == 0 {
			*at(s) = 0
			return nil
		}
		return set(s, given)
	}
	return f
}

// briefly drops the zero parts that Duration.String ends with: 1m, not 1m0s.
func briefly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func within[T int | int64 | time.Duration](v, least, most T, show func(T) string) error {
	switch {
	case v < least:
		return fmt.Errorf("is less than %s", show(least))
	case v > most:
		return fmt.Errorf("is more than %s", show(most))
	}
	return nil
}

// share takes a part of a whole.
func share(at func(*Settings) *float64) form {
	return field("share", "more than 0 and at most 1, such as 0.5", at, func(given string) (float64, error) {
		v, err := strconv.ParseFloat(given, 64)
		switch {
		case err != nil || math.IsNaN(v):
			return 0, errors.New("is not a number")
		case v <= 0:
			return 0, errors.New("is not more than 0")
		case v > 1:
			return 0, errors.New("is more than 1")
		}
		return v, nil
	}, func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) })
}

func count(least, most int, at func(*Settings) *int) form {
	return field("number", fmt.Sprintf("%d to %d", least, most), at, func(given string) (int, error) {
		v, err := strconv.Atoi(given)
		if errors.Is(err, strconv.ErrRange) {
			return 0, errors.New("is out of range")
		}
		if err != nil {
			return 0, errors.New("is not a whole number")
		}
		return v, within(v, least, most, strconv.Itoa)
	}, strconv.Itoa)
}

// size takes a number of bytes, with or without a unit.
func size(least, most int64, at func(*Settings) *int64) form {
	want := fmt.Sprintf("%s to %s, such as 64MiB, 1GB or plain bytes", sized(least), sized(most))
	return field("size", want, at, func(given string) (int64, error) {
		v, err := humanize.ParseBytes(given)
		if err != nil {
			return 0, errors.New("is not a size")
		}
		if v > math.MaxInt64 {
			v = math.MaxInt64
		}
		return int64(v), within(int64(v), least, most, sized)
	}, sized)
}

// sized shows bytes exactly, in the largest unit that divides them.
func sized(v int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if v >= u.bytes && v%u.bytes == 0 {
			return strconv.FormatInt(v/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(v, 10)
}
