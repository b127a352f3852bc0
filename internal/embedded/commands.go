package embedded

import (
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// version is the Redis that this server resembles in what we use of it.
const version = "7.0.0"

// configuration is what CONFIG GET knows, sorted by name.
var configuration = [][2]string{
	{"appendonly", "no"},
	{"maxmemory", "0"},
	{"maxmemory-policy", "noeviction"},
	{"save", ""},
}

// addCommands adds what the library lacks and our clients ask for.
func (s *Server) addCommands() error {
	if err := s.srv.Register("CONFIG", config, server.ReadOnlyOption()); err != nil {
		return err
	}
	s.srv.SetPreHook(s.override)
	return nil
}

// override answers instead of the library where its own answer is an error that
// clients do not expect. It reports whether it did. A script's commands pass
// here too, with the library's lock held: nothing here may take that lock.
func (s *Server) override(c *server.Peer, cmd string, args ...string) bool {
	switch cmd {
	case "INFO":
		c.WriteBulk(s.info(args))
		return true
	case "CLIENT":
		return client(c, args)
	case "CLUSTER": // the library pretends to be one, at no address
		c.WriteError("ERR This instance has cluster support disabled")
		return true
	}
	return false
}

// client accepts what drivers say of themselves when they connect.
func client(c *server.Peer, args []string) bool {
	if len(args) == 0 {
		return false
	}
	switch strings.ToUpper(args[0]) {
	case "SETINFO", "NO-EVICT", "NO-TOUCH":
		c.WriteOK()
		return true
	}
	return false
}

// config answers CONFIG GET; there is nothing to set.
func config(c *server.Peer, _ string, args []string) {
	if len(args) < 2 || !strings.EqualFold(args[0], "GET") {
		c.WriteError("ERR the embedded Redis knows only CONFIG GET parameter [parameter ...]")
		return
	}
	found := slices.DeleteFunc(slices.Clone(configuration), func(have [2]string) bool {
		return !slices.ContainsFunc(args[1:], func(want string) bool {
			ok, _ := path.Match(strings.ToLower(want), have[0])
			return ok
		})
	})
	c.WriteMapLen(len(found))
	for _, f := range found {
		c.WriteBulk(f[0])
		c.WriteBulk(f[1])
	}
}

// info answers INFO, all of it or the sections asked for.
func (s *Server) info(sections []string) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	all := []struct{ name, text string }{
		{"Server", fmt.Sprintf("redis_version:%s\r\nredis_mode:embedded\r\nprocess_id:%d\r\ntcp_port:%s\r\nuptime_in_seconds:%d\r\n",
			version, os.Getpid(), port, int(time.Since(s.started).Seconds()))},
		{"Clients", fmt.Sprintf("connected_clients:%d\r\n", s.srv.ClientsLen())},
		{"Memory", "maxmemory:0\r\nmaxmemory_policy:noeviction\r\n"},
		{"Persistence", "loading:0\r\naof_enabled:0\r\n"},
		{"Stats", fmt.Sprintf("total_connections_received:%d\r\ntotal_commands_processed:%d\r\n",
			s.srv.TotalConnections(), s.srv.TotalCommands())},
		{"Replication", "role:master\r\nconnected_slaves:0\r\n"},
	}
	var text strings.Builder
	for _, one := range all {
		wanted := len(sections) == 0 || slices.ContainsFunc(sections, func(s string) bool {
			return strings.EqualFold(s, one.name) || slices.Contains([]string{"all", "default", "everything"}, strings.ToLower(s))
		})
		if wanted {
			fmt.Fprintf(&text, "# %s\r\n%s\r\n", one.name, one.text)
		}
	}
	return text.String()
}
