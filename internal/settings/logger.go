package settings

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// Rotation of the log file: at most about 600 MB on disk.
const (
	logFileMB      = 100
	logFileBackups = 5
)

// LogSink is where the log lines go. Close it last: it ends the rotation.
type LogSink struct {
	// Level is the least important level written; it may be changed at any time.
	Level *slog.LevelVar

	file *timberjack.Logger // nil for none
}

// Close flushes and closes the log file. Lines logged afterwards still reach
// stderr.
func (k *LogSink) Close() error {
	if k.file == nil {
		return nil
	}
	return k.file.Close()
}

// NewLogger returns the logger that s asks for. Lines go to stderr, in colour
// if it is a terminal, and to the log file if there is one. The caller closes
// the sink. The error is an *Error when the log file cannot be written.
func NewLogger(s *Settings) (*slog.Logger, *LogSink, error) { return NewLoggerTo(os.Stderr, s) }

// NewLoggerTo is NewLogger with another writer in place of stderr.
func NewLoggerTo(w io.Writer, s *Settings) (*slog.Logger, *LogSink, error) {
	sink := &LogSink{Level: new(slog.LevelVar)}
	sink.Level.Set(s.LogLevel)
	handler := lines(w, s.LogFormat, sink.Level)
	if s.LogFile == "" {
		return slog.New(handler), sink, nil
	}
	if err := writable(s.LogFile); err != nil {
		where := s.origins["log-file"].name
		if where == "" {
			where = descriptor("log-file").Env()
		}
		return nil, nil, &Error{Where: where, Value: s.LogFile, Fault: err.Error(), Want: "a file that can be written, or empty for none"}
	}
	sink.file = &timberjack.Logger{Filename: s.LogFile, MaxSize: logFileMB, MaxBackups: logFileBackups, FileMode: 0o640}
	return slog.New(slog.NewMultiHandler(handler, lines(sink.file, s.LogFormat, sink.Level))), sink, nil
}

// lines writes one line a record. Only a terminal gets colours.
func lines(w io.Writer, format LogFormat, level slog.Leveler) slog.Handler {
	if format == LogJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != ""})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// writable finds out now what the first line would only find out later. Its
// error is a fault.
func writable(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return errors.New("is in a folder that cannot be made")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return errors.New("cannot be opened for writing")
	}
	return f.Close()
}
