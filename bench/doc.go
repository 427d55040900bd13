// Package bench holds the benchmarks of whole stacks in one process, waybill's and gVisor's:
//
//	go test -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /stack new.txt
//
// The programs below it measure them behind the kernel's devices; compare runs all of them.
package bench
