package speed_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// probeEnv makes the test binary a probe of the Redis at that address. It is a
// process of its own, or what it saw would be the garbage collector of the
// replicas it runs beside.
const probeEnv = "ROUTEX_SPEED_PROBE"

// probe asks all the time until its input ends, and then says how long the
// longest answer took.
func probe(addr string) error {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20) // where that is allowed: it shall wait for Redis alone
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	var longest time.Duration
	for in := bufio.NewReader(conn); ; time.Sleep(time.Millisecond) {
		select {
		case <-ended:
			fmt.Println(int64(longest))
			return nil
		default:
		}
		start := time.Now()
		if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
			return err
		}
		if _, err := in.ReadString('\n'); err != nil {
			return err
		}
		longest = max(longest, time.Since(start))
	}
}

// watch observes the bed's Redis until the function it returns is called: how
// long the longest answer took, and how much memory there was at most.
func watch(tb testing.TB, bed *bed) func() (stall time.Duration, peak int64) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), probeEnv+"="+bed.server.Addr())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	var peak int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			peak = max(peak, memory(tb, bed))
			time.Sleep(20 * time.Millisecond)
		}
	})
	return func() (time.Duration, int64) {
		cancel()
		wg.Wait()
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			tb.Fatalf("probe: %v\n%s", err, &complaint)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		return time.Duration(n), peak
	}
}

// memory is what the bed's Redis uses, in bytes.
func memory(tb testing.TB, bed *bed) int64 {
	info, _ := bed.raw.Info(tb.Context(), "memory").Result()
	_, rest, _ := strings.Cut(info, "used_memory:")
	line, _, _ := strings.Cut(rest, "\r\n")
	n, _ := strconv.ParseInt(line, 10, 64)
	return n
}
