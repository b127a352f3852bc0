package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// pinger sends a PING every millisecond until its input ends, and prints the
// longest time one took. It is a process of its own, so that what keeps us busy
// is not taken for what keeps Redis busy.
func pinger() {
	c := redis.NewClient(&redis.Options{Addr: os.Getenv("ROUTEX_BENCH_ADDR"), PoolSize: 1, ReadTimeout: patience})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	longest := time.Duration(0)
	c.Ping(ctx)
	fmt.Println("ready")
	for ctx.Err() == nil {
		start := time.Now()
		c.Ping(context.Background())
		longest = max(longest, time.Since(start))
		time.Sleep(time.Millisecond)
	}
	fmt.Println(longest.Nanoseconds())
}

// helper starts this binary in a role, and returns what it says. stop ends it.
func helper(tb testing.TB, role string, args []string, env ...string) (out *bufio.Reader, pid int, stop func()) {
	tb.Helper()
	name := os.Args[0]
	if len(args) > 0 {
		name, args = args[0], append(args[1:], name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var once sync.Once
	end := func() { once.Do(func() { _ = in.Close() }) }
	tb.Cleanup(func() { end(); _ = cmd.Wait() })
	return bufio.NewReader(pipe), cmd.Process.Pid, end
}

// stall measures what others see of Redis while do runs: the longest PING, and
// how far its memory rises.
func (r *rig) stall(b *testing.B, do func()) (longest time.Duration, rise int64) {
	b.Helper()
	out, _, stop := helper(b, "pinger", nil, "ROUTEX_BENCH_ADDR="+r.server.Addr())
	if _, err := out.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	before := info(b, r.raw, "used_memory")[0]
	peak, done := before, make(chan struct{})
	var wg sync.WaitGroup
	watch := patient(r.server, b)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				peak = max(peak, info(b, watch, "used_memory")[0])
			}
		}
	})
	do()
	close(done)
	wg.Wait()
	stop()
	line, err := out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n), peak - before
}

// BenchmarkStall is what others on the same Redis notice of a first publish, and
// of 32 replicas that start at once.
func BenchmarkStall(b *testing.B) {
	n := large()
	all := sets(b, n)
	type doing struct {
		name  string
		ready bool // the set is there before
		do    func(b *testing.B, r *rig)
	}
	for _, d := range []doing{
		{"publish/who=ours", false, func(_ *testing.B, r *rig) { r.publish(all) }},
		{"publish/who=one-script", false, func(b *testing.B, r *rig) { oneScript(b, r, all[snapshot.Channels]) }},
		{"32-starts/who=ours", true, startAll},
		{"32-starts/who=hgetall", true, hgetallAll},
		{"nothing/who=machine", true, func(*testing.B, *rig) { time.Sleep(500 * time.Millisecond) }},
	} {
		b.Run(fmt.Sprintf("records=%d/what=%s", n, d.name), func(b *testing.B) {
			for b.Loop() {
				r := newRig(b)
				if d.ready {
					r.publish(all)
				}
				longest, rise := r.stall(b, func() { d.do(b, r) })
				b.ReportMetric(ms(longest), "stall-ms")
				b.ReportMetric(float64(rise), "redis-rise-B")
			}
		})
	}
}

// oneScript writes the set the short way: everything in one EVAL.
func oneScript(b *testing.B, r *rig, set *snapshot.Set) {
	const script = `for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i+1]) end return 1`
	args := make([]any, 0, 2*set.Len())
	for _, id := range set.IDs() {
		body, _ := set.Get(id)
		args = append(args, id, body)
	}
	if err := patient(r.server, b).Eval(context.Background(), script, []string{"all"}, args...).Err(); err != nil {
		b.Fatal(err)
	}
}

// startAll is 32 replicas that pull everything at once. They leave out the view,
// which is their own affair and not Redis's.
func startAll(b *testing.B, r *rig) {
	var wg sync.WaitGroup
	for i := range 32 {
		st := r.dial(fmt.Sprint("replica-", i))
		wg.Go(func() {
			for _, kind := range []snapshot.Kind{snapshot.Channels, snapshot.Models, snapshot.RoutingRules} {
				if _, err := st.Pull(context.Background(), kind, nil); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func hgetallAll(b *testing.B, r *rig) {
	var wg sync.WaitGroup
	for range 32 {
		c := patient(r.server, b)
		wg.Go(func() {
			if _, err := c.HGetAll(context.Background(), r.st.Keys().Snapshot(snapshot.Channels)).Result(); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}
