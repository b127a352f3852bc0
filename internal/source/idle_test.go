package source_test

import (
	"database/sql"
	"testing"
	"testing/synctest"
	"time"
)

// TestLoadsThatMetLeaveFewReaders has as many reads at once as the pool allows.
// What they needed is not kept: the descriptors of a process would only rise.
func TestLoadsThatMetLeaveFewReaders(t *testing.T) {
	t.Parallel()
	e := sqliteEngine(t)
	synctest.Test(t, func(t *testing.T) {
		d := open(t, e)
		var held []*sql.Conn
		for range 5 {
			c, err := d.Reader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
		if n := d.Readers(); n != 5 {
			t.Fatalf("%d readers, want 5", n)
		}
		for _, c := range held {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 { // one load after the other goes on
			time.Sleep(20 * time.Second)
			c, err := d.Reader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		if n := d.Readers(); n != 1 {
			t.Errorf("%d readers are kept, want the one that is in use", n)
		}
	})
}
