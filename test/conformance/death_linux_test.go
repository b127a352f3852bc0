package conformance_test

import "syscall"

// dieWithParent makes the kernel kill the child when the test's process dies,
// or port 8080 would stay taken after a test that was killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
