//go:build unix && !linux

package testkit

import "syscall"

// dieWithParent does nothing: only Linux offers it. A killed test leaves its
// private servers behind here, and its shared ones to the reaper.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
