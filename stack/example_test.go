package stack_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// Two hosts on a wire inside the process: no root, no device, no kernel sockets.
func Example() {
	a, b := link.Pipe(link.PipeConfig{Ethernet: true})
	server, client := stack.New(stack.Config{}), stack.New(stack.Config{})
	server.Attach(a, netip.MustParsePrefix("198.51.100.2/24"))
	client.Attach(b, netip.MustParsePrefix("198.51.100.1/24"))

	l, _ := server.Listen("tcp", ":80")
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello, over TCP of our own")
	}))
	web := http.Client{Transport: &http.Transport{DialContext: client.DialContext}}
	r, err := web.Get("http://198.51.100.2/")
	if err != nil {
		panic(err)
	}
	io.Copy(os.Stdout, r.Body)
	// Output: hello, over TCP of our own
}

// A connection shows its state at any time, in the RFC's own words.
func ExampleTCPConn_Info() {
	s := stack.New(stack.Config{})
	defer s.Close()
	l, _ := s.Listen("tcp", "127.0.0.1:0")
	c, _ := s.Dial("tcp", l.Addr().String())
	peer, _ := l.Accept()
	defer peer.Close()
	fmt.Println(c.(*stack.TCPConn).Info().State)
	c.(*stack.TCPConn).CloseWrite()
	peer.Read(make([]byte, 1)) // the FIN has arrived
	fmt.Println(peer.(*stack.TCPConn).Info().State)
	// Output:
	// ESTABLISHED
	// CLOSE-WAIT
}

// Conns is an ss(8) in Go.
func ExampleStack_Conns() {
	s := stack.New(stack.Config{})
	defer s.Close()
	s.Listen("tcp", ":80")
	s.ListenPacket("udp", "127.0.0.1:53")
	for c := range s.Conns() {
		fmt.Println(c.Network, c.Local, c.State)
	}
	// Output:
	// tcp [::]:80 LISTEN
	// udp 127.0.0.1:53 CLOSED
}
