package app

import (
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestALargeCopyIsWrittenSeldom(t *testing.T) {
	of := func(bytes int) map[snapshot.Kind]*snapshot.Snapshot {
		set := snapshot.NewSet(snapshot.Channels, map[string]string{"c": strings.Repeat("x", bytes-1)})
		return map[snapshot.Kind]*snapshot.Snapshot{snapshot.Channels: {Set: set}}
	}
	for _, tt := range []struct {
		name  string
		bytes int
		took  time.Duration
		want  time.Duration
	}{
		{"a small copy a second later", 1000, time.Millisecond, time.Second},
		{"one that took long leaves the disk to others", 1000, time.Second, 20 * time.Second},
		{"one of 40 MiB is not written for every change", 40 << 20, 100 * time.Millisecond, 40 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pause(of(tt.bytes), tt.took); got != tt.want {
				t.Errorf("pause() = %v, want %v", got, tt.want)
			}
		})
	}
}
