package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
)

// The hosts' addresses, and the router's, which are those of the program router (RFC 5737).
const (
	homeAddr    = "198.51.100.10"
	outsideAddr = "203.0.113.7"
	lanAddr     = "198.51.100.1"
	wanAddr     = "203.0.113.1"
)

// scene is a client at home, a server outside, and a router between them.
type scene struct {
	home, outside *lab.Namespace
	closers       []func()
}

// program is the path of one of the programs.
func (o *options) program(name string) string { return filepath.Join(o.bin, name) }

// newScene makes the namespaces, and has a router stand between them and the server serve.
func (o *options) newScene(ctx context.Context, r *router, round int) (s *scene, err error) {
	s = new(scene)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.home, err = s.namespace(); err != nil {
		return nil, err
	}
	if s.outside, err = s.namespace(); err != nil {
		return nil, err
	}
	if r.kernel {
		err = s.routeKernel(ctx, r.nat)
	} else {
		err = o.routeWaybill(ctx, s, r, round)
	}
	if err != nil {
		return nil, err
	}
	if err = host(ctx, s.home, "lan", homeAddr, lanAddr); err != nil {
		return nil, err
	}
	gateway := wanAddr
	if r.nat { // nobody outside knows of the home: what is not masqueraded gets no answer
		gateway = ""
	}
	if err = host(ctx, s.outside, "wan", outsideAddr, gateway); err != nil {
		return nil, err
	}
	server, err := s.outside.Serve(ctx, o.program("server"), "-mode", "kernel")
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, server.Stop)
	return s, nil
}

func (s *scene) close() {
	for n := len(s.closers) - 1; n >= 0; n-- {
		s.closers[n]()
	}
}

// namespace makes a namespace that ends with the scene.
func (s *scene) namespace() (*lab.Namespace, error) {
	n, err := lab.NewNamespace()
	if err == nil {
		s.closers = append(s.closers, n.Close)
	}
	return n, err
}

// host makes the kernel of a namespace a host behind the interface called name, with a default route if there is a gateway.
func host(ctx context.Context, n *lab.Namespace, name, addr, gateway string) error {
	lines := []string{"address add " + addr + "/24 dev " + name, "link set " + name + " up"}
	if gateway != "" {
		lines = append(lines, "route add default via "+gateway)
	}
	return n.IP(ctx, lines...)
}

// routeWaybill puts waybill between the namespaces.
func (o *options) routeWaybill(ctx context.Context, s *scene, r *router, round int) error {
	args := []string{"-lan", s.home.Path(), "-wan", s.outside.Path()}
	if r.nat {
		args = append(args, "-nat")
	}
	if o.profile != "" {
		name := strings.ReplaceAll(r.column, ", ", "-")
		args = append(args, "-cpuprofile", filepath.Join(o.profile, fmt.Sprintf("%s-%d.prof", name, round+1)))
	}
	server, err := s.home.Serve(ctx, o.program("router"), args...)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, server.Stop)
	return nil
}

// routeKernel puts a kernel between the namespaces. Like waybill, it takes nothing that came by another interface than
// the one that leads to its source.
func (s *scene) routeKernel(ctx context.Context, nat bool) error {
	n, err := s.namespace()
	if err != nil {
		return err
	}
	err = n.IP(ctx,
		"link add lan type veth peer name lan netns "+s.home.Path(),
		"link add wan type veth peer name wan netns "+s.outside.Path(),
		"address add "+lanAddr+"/24 dev lan", "address add "+wanAddr+"/24 dev wan",
		"link set lan up", "link set wan up")
	if err != nil {
		return err
	}
	if err := n.Set("ipv4/conf/all/rp_filter", "1"); err != nil {
		return err
	}
	if err := n.Set("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if nat {
		return n.Run(ctx, "nft", rules)
	}
	return nil
}

// rules are those of the program router, in nft's words.
const rules = `
table inet home {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		meta l4proto { icmp, ipv6-icmp } accept
		iifname "lan" accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "lan" accept
		icmpv6 type echo-request accept
		iifname "wan" ip6 daddr 2001:db8:51::/64 tcp dport 80 accept
		ct status dnat accept
	}
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr 203.0.113.1 tcp dport 8080 dnat ip to 198.51.100.10:80
		ip daddr 203.0.113.1 udp dport 5353 dnat ip to 198.51.100.10:53
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "wan" ip saddr 198.51.100.0/24 masquerade
	}
}
`
