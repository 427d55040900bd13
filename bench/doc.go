// Package bench holds the benchmarks of whole stacks in one process, waybill's and gVisor's:
//
//	go test -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /stack new.txt
//
// The programs below it measure them behind the kernel's devices: compare runs all that serve, and forward has waybill
// between two kernels, as a router, beside a kernel.
package bench
