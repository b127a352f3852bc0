package testkit

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Tests stop servers on purpose; go-redis would say each dial that fails.
func init() { redis.SetLogger(&logging.VoidLogger{}) }

// clientOptions are the options of every client made here.
func clientOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:                  addr,
		ContextTimeoutEnabled: true,
		DialTimeout:           time.Second,
		DialerRetries:         1,    // a stopped server is noticed at once
		DisableIdentity:       true, // CLIENT SETINFO is newer than Redis 7.0
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled, // so is its handshake
		},
	}
}
