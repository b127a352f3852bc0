package model_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/history"
)

// workerEnv is set in processes that this test starts to run the model: one
// processor each, so that goroutines take their turns in the same order again,
// and no race detector, which is eight times slower.
const workerEnv = "ROUTEX_MODEL_WORKER"

// slice is how many runs one process makes: it keeps some of what they leave.
const slice = 500

// TestModel runs the model in several processes at once.
func TestModel(t *testing.T) {
	if os.Getenv(workerEnv) != "" {
		work(t)
		return
	}
	// A run has about 1,300 steps, most of them of its scene and its rest: this makes a million.
	const least = 1_000_000
	runs, bar, within := 860, least, 8*time.Minute
	if long := testkit.Long(); long > 0 { // a billion, or what the time is enough for
		runs, bar, within = 1000*runs, 1000*least, long*6/10
	}
	workers := runtime.NumCPU()
	binary := build(t, "")
	t.Logf("seed %d, commit %s", testkit.Seed(), testkit.Commit())
	began := time.Now()
	var wg sync.WaitGroup
	var steps, tests, hints atomic.Int64
	var over atomic.Bool // the time ended it, before all runs were made
	slices := (runs + workers*slice - 1) / (workers * slice)
	for i := range workers {
		wg.Go(func() {
			for k := 0; k < slices && !t.Failed(); k++ {
				if time.Since(began) >= within {
					over.Store(true)
					return
				}
				n := min(slice, (runs+workers-1)/workers-k*slice)
				out, err := runWorker(t.Context(), binary, testkit.Seed()+uint64(k*workers+i)<<32, 8*time.Minute, "-rapid.checks="+strconv.Itoa(n))
				if err != nil {
					t.Errorf("%v\n%s", err, untilRepeated(out))
				}
				if m := doneForm.FindStringSubmatch(out); m != nil {
					played, _ := strconv.ParseInt(m[1], 10, 64)
					ran, _ := strconv.ParseInt(m[2], 10, 64)
					steps.Add(played)
					tests.Add(ran)
				}
				if m := hintsForm.FindStringSubmatch(out); m != nil {
					applied, _ := strconv.ParseInt(m[1], 10, 64)
					hints.Add(applied)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	made, want, short := steps.Load(), int64(bar), ""
	if made < want && over.Load() {
		want, short = least, ", the time was over"
	}
	t.Logf("figure: model steps without a violation: %d of %d%s, in %d runs, %v, %.0f steps/s in %d processes",
		made, bar, short, tests.Load(), took.Round(100*time.Millisecond), float64(made)/took.Seconds(), workers)
	if made < want && !t.Failed() {
		t.Errorf("%d steps, want %d", made, want)
	}
	t.Logf("figure: hints applied on the way: %d (bar: one in each run)", hints.Load())
	if hints.Load() < tests.Load() && !t.Failed() {
		t.Errorf("%d hints were applied in %d runs", hints.Load(), tests.Load())
	}
}

// TestASeedRepeatsItsRuns plays the same seed twice: what is found can be looked
// at again. Where two timers of one loop end at the same moment Go itself throws
// dice, so that a few runs part.
func TestASeedRepeatsItsRuns(t *testing.T) {
	const runs = 40
	binary := build(t, "")
	var prints [2][]string
	for i := range prints {
		out, err := runWorker(t.Context(), binary, testkit.Seed(), time.Minute, "-rapid.checks="+strconv.Itoa(runs))
		if err != nil {
			t.Fatalf("%v\n%s", err, untilRepeated(out))
		}
		_, all, _ := strings.Cut(out, "prints ")
		prints[i] = strings.Fields(all)[:runs]
	}
	same := 0
	for i := range runs {
		if prints[0][i] == prints[1][i] {
			same++
		}
	}
	t.Logf("figure: runs that a seed repeats step by step: %d of %d (bar: half)", same, runs)
	if same < runs/2 {
		t.Errorf("seed %d repeated %d of %d runs", testkit.Seed(), same, runs)
	}
}

var (
	doneForm   = regexp.MustCompile(`played (\d+) steps in (\d+) runs`)
	hintsForm  = regexp.MustCompile(`applied (\d+) hints`)
	partedForm = regexp.MustCompile(`Original traceback \((after .*)`)
	caughtForm = regexp.MustCompile(`(?:failed|panic) after (\d+) tests: (.*)`)
)

// work is what a worker does: as many runs as its flags say.
func work(t *testing.T) {
	p := newPool()
	steps, tests := 0, 0
	var prints []string // of the first runs
	defer func() {
		t.Logf("played %d steps in %d runs", steps, tests)
		t.Logf("applied %d hints", p.hints)
		t.Logf("prints %s", strings.Join(prints, " "))
	}()
	rapid.Check(t, func(t *rapid.T) {
		p.print = 0
		steps += play(t, p, nil)
		if tests++; len(prints) < 100 {
			prints = append(prints, strconv.FormatUint(p.print, 16))
		}
	})
}

// build compiles this package without the race detector, with overlay if that is
// not empty, and returns the path of the binary.
func build(t *testing.T, overlay string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "model.test")
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the model: %v\n%s", err, out)
	}
	return binary
}

// runWorker runs one worker to its end.
func runWorker(ctx context.Context, binary string, seed uint64, within time.Duration, args ...string) (string, error) {
	args = append(args, "-test.run=^TestModel$", "-test.v", "-rapid.nofailfile", "-rapid.shrinktime=1ms",
		"-rapid.seed="+strconv.FormatUint(max(seed, 1), 10), "-test.timeout="+within.String())
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), workerEnv+"=1", "GOMAXPROCS=1", "GOGC=400")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("a model run from seed %d: %w", seed, err)
	}
	return out.String(), nil
}

// untilRepeated leaves out what rapid says again, and every draw.
func untilRepeated(out string) string {
	first, _, _ := strings.Cut(out, "Failed test output")
	return first
}

// TestModelUnderTheRaceDetector runs a little of it in this process, which may
// have been built to find races.
func TestModelUnderTheRaceDetector(t *testing.T) {
	p := newPool()
	rng := testkit.Random(t)
	rapid.Check(t, func(t *rapid.T) {
		if rng.IntN(5) == 0 { // a fifth of what rapid would do
			play(t, p, nil)
		}
	})
}

// TestHistories has Porcupine check what runs of the model looked like from
// outside.
func TestHistories(t *testing.T) {
	p := newPool()
	operations, runs := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		if runs++; runs%4 != 0 {
			return
		}
		h := history.New()
		play(rt, p, h)
		operations += h.Len()
		if faults := h.Faults(); len(faults) > 0 {
			rt.Fatal(strings.Join(faults, "\n"))
		}
	})
	t.Logf("figure: operations of model histories accepted by Porcupine: %d (bar: all)", operations)
	if operations == 0 {
		t.Error("no operation was recorded")
	}
}
