package testkit

import "syscall"

// dieWithParent makes the kernel send sig to the child when we die. The kernel
// ties this to the thread that started the child, not to the process; Go ends a
// thread only when a goroutine locked to it ends, which no test here does.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
