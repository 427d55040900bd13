package tcp_test

import (
	"fmt"

	"github.com/seed87e66d9f/waybill/tcp"
)

// A segment is written into the caller's memory and read into the caller's struct.
func ExampleSegment() {
	syn := tcp.Segment{Seq: 100, Flags: tcp.SYN, Window: 65535, Options: tcp.Options{MSS: 1460, SACKPermitted: true}}
	b := make([]byte, tcp.MaxHeaderLen)
	n := syn.Encode(b, tcp.Ports{Src: 49152, Dst: 443})

	var s tcp.Segment
	ports, err := s.Decode(b[:n])
	fmt.Println(s, s.Options.MSS, ports.Dst, err)

	_, err = s.Decode(b[:n-1])
	fmt.Println(err)
	// Output:
	// <SEQ=100><CTL=SYN> 1460 443 <nil>
	// tcp: data offset outside the segment
}
