package fleet

import "syscall"

// dieWithParent makes the kernel kill the child when the test's process dies.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
