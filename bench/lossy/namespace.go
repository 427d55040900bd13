package main

import "github.com/seed87e66d9f/waybill/bench/internal/lab"

// newNamespace makes a network namespace. Each of its kernels has buffers that grow to 32 MB, so that none of them is what
// is measured, and remembers nothing of one connection for the next.
func newNamespace() (*lab.Namespace, error) {
	ns, err := lab.NewNamespace()
	if err != nil {
		return nil, err
	}
	for _, s := range [][2]string{
		{"tcp_rmem", "4096 131072 33554432"}, {"tcp_wmem", "4096 131072 33554432"}, {"tcp_no_metrics_save", "1"},
	} {
		if err := ns.Set("ipv4/"+s[0], s[1]); err != nil {
			ns.Close()
			return nil, err
		}
	}
	return ns, nil
}
