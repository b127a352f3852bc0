package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/settings"
)

func (p *program) healthcheckCommand() *cobra.Command {
	var server string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a replica whether it is ready: exit code 0 or 1, for containers",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return misuse("--timeout is %s: want more than 0s", timeout)
			}
			if server == "" {
				var err error
				if server, err = p.ownAddress(); err != nil {
					return err
				}
			}
			c, err := newClient(server, "")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			a, err := c.get(ctx, "/readyz", nil)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.stdout, printable(a.Message))
			return nil
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "address of the replica (default: ROUTEX_LISTEN)")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Second, "longest it waits for the answer")
	return cmd
}

// ownAddress is where a replica with these settings is reached from this
// machine: one that listens everywhere listens on loopback too.
func (p *program) ownAddress() (string, error) {
	s, err := settings.Pick(p.environ, "listen")
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", misuse("ROUTEX_LISTEN leaves the port open, so there is no address to ask; give --server")
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
