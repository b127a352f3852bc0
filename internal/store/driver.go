package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"
)

// quietDriver sends what go-redis says to the process's log, at level debug. It
// writes a line for each dial that fails; what that means for us, whoever asked
// says once.
var quietDriver = sync.OnceFunc(func() { redis.SetLogger(driverLog{}) })

// driverLog is the process's log as go-redis wants it.
type driverLog struct{}

// Printf logs one line.
func (driverLog) Printf(ctx context.Context, format string, v ...any) {
	if log := slog.Default(); log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "Redis driver: "+fmt.Sprintf(format, v...))
	}
}
