package narrate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

const (
	protoTCP = ipv4.ProtoTCP
	protoUDP = ipv4.ProtoUDP
	portDNS  = 53 // RFC 1035 §4.2
	// viewed is how much of a packet is looked at: all headers, and a message of DNS or the first line of others.
	viewed = 2048
	// lineLen is how much of a first line is shown: what stands beside it in a terminal's line.
	lineLen = 60
)

// A view is what a frame says of itself.
type view struct {
	ethernet bool
	src, dst ethernet.Addr
	flow     firewall.Flow // of an IP packet
	hops     uint8         // its TTL or hop limit
	isTCP    bool
	seg      tcp.Segment // without its text
	size     int         // of the text of TCP or UDP
	says     string      // what is not TCP: in words. TCP: its first line
	about    netip.Addr  // of ARP and NDP: whose station is asked for or told
}

// newView reads a packet.
func newView(p *link.Packet, isEthernet bool) *view {
	v := &view{ethernet: isEthernet}
	b := make([]byte, 0, min(p.Len(), viewed))
	b = append(b, p.Head[:min(len(p.Head), viewed)]...)
	for _, t := range p.Text {
		b = append(b, t[:min(len(t), viewed-len(b))]...)
	}
	if isEthernet {
		var h ethernet.Header
		n, err := h.Decode(b)
		if err != nil {
			v.says = err.Error()
			return v
		}
		v.src, v.dst = h.Src, h.Dst
		b = b[n:]
		if h.Type == ethernet.TypeARP {
			v.arp(b)
			return v
		}
	}
	v.packet(b)
	return v
}

// segmentView is the view of a segment alone.
func segmentView(f firewall.Flow, s *tcp.Segment) *view {
	v := &view{flow: f, isTCP: true, seg: *s, size: s.TextLen()}
	v.seg.Text, v.seg.Buffer = nil, nil
	return v
}

func (v *view) arp(b []byte) {
	var a ethernet.ARP
	if err := a.Decode(b); err != nil {
		v.says = err.Error()
		return
	}
	if a.Op == ethernet.OpRequest {
		v.about = a.TargetIP
		v.says = fmt.Sprintf("ARP: who has %v? Tell %v at %v", a.TargetIP, a.SenderIP, a.SenderHW)
		return
	}
	v.about = a.SenderIP
	v.says = fmt.Sprintf("ARP: %v is at %v", a.SenderIP, a.SenderHW)
}

// packet reads an IP packet, of which the end may be missing.
func (v *view) packet(b []byte) {
	if len(b) == 0 {
		return
	}
	if b[0]>>4 == 4 {
		var h ipv4.Header
		n, err := h.DecodeQuoted(b)
		if err != nil {
			v.says = err.Error()
			return
		}
		v.hops = h.TTL
		v.transport(h.Protocol, h.Src, h.Dst, b[n:min(len(b), max(h.Length, n))], h.Length-n)
		return
	}
	var h ipv6.Header
	var c ipv6.Chain
	err := h.DecodeQuoted(b)
	if err == nil {
		err = c.WalkQuoted(h.NextHeader, b[ipv6.HeaderLen:])
	}
	if err != nil {
		v.says = err.Error()
		return
	}
	v.hops = h.HopLimit
	v.transport(c.Protocol, h.Src, h.Dst, b[min(len(b), ipv6.HeaderLen+c.Offset):min(len(b), ipv6.HeaderLen+h.PayloadLength)], h.PayloadLength-c.Offset)
}

// transport reads what an IP packet carries, of n octets.
func (v *view) transport(proto uint8, src, dst netip.Addr, b []byte, n int) {
	var from, to uint16
	switch proto {
	case protoTCP:
		ports, err := v.seg.Decode(b)
		if err != nil {
			v.says = err.Error()
			break
		}
		from, to, v.isTCP = ports.Src, ports.Dst, true
		v.size = n - (len(b) - v.seg.TextLen())
		if len(v.seg.Text) > 0 {
			v.says = firstLine(v.seg.Text[0])
		}
		v.seg.Text = nil
	case protoUDP:
		if len(b) < udp.HeaderLen {
			break
		}
		from, to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		v.size = n - udp.HeaderLen
		v.says = fmt.Sprintf("UDP, %d octets", v.size)
		if from == portDNS || to == portDNS {
			v.says = "UDP, DNS: " + dns(b[udp.HeaderLen:])
		}
	case ipv4.ProtoICMP, ipv6.ProtoICMP:
		if len(b) < ipv4.ICMPLen {
			break
		}
		from, to = v.icmp(proto == ipv6.ProtoICMP, b)
	default:
		v.says = "protocol " + strconv.Itoa(int(proto))
	}
	v.flow = firewall.Flow{Protocol: proto, Src: netip.AddrPortFrom(src, from), Dst: netip.AddrPortFrom(dst, to)}
}

// icmp reads a message. As in firewall.Flow, the identifier of a question is where the port of the source would be, and that
// of an answer where the destination's would.
func (v *view) icmp(v6 bool, b []byte) (from, to uint16) {
	id := binary.BigEndian.Uint16(b[4:])
	name, echo, reply := "ICMP", uint8(ipv4.Echo), uint8(ipv4.EchoReply)
	if v6 {
		name, echo, reply = "ICMPv6", ipv6.Echo, ipv6.EchoReply
	}
	switch {
	case b[0] == echo:
		v.says = fmt.Sprintf("%s, echo request %d", name, binary.BigEndian.Uint16(b[6:]))
		return id, 0
	case b[0] == reply:
		v.says = fmt.Sprintf("%s, echo reply %d", name, binary.BigEndian.Uint16(b[6:]))
		return 0, id
	case v6 && (b[0] == ipv6.NeighborSolicitation || b[0] == ipv6.NeighborAdvertisement) && len(b) >= 24: // RFC 4861 §4.3, §4.4
		v.about = netip.AddrFrom16([16]byte(b[8:24]))
		v.says = fmt.Sprintf("NDP: who has %v?", v.about)
		if b[0] == ipv6.NeighborAdvertisement {
			v.says = fmt.Sprintf("NDP: %v is at %v", v.about, v.src)
		}
	default:
		v.says = fmt.Sprintf("%s, type %d, code %d", name, b[0], b[1])
	}
	return 0, 0
}

// firstLine is the first line of a text, if it is one.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(b[:min(len(b), lineLen)]), "\n")
	line = strings.TrimRight(line, "\r")
	for _, r := range line {
		if !strconv.IsPrint(r) {
			return ""
		}
	}
	return line
}

// dns is a message of DNS in words.
func dns(b []byte) string {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Questions) == 0 {
		return "not understood"
	}
	q := m.Questions[0]
	text := fmt.Sprintf("%v %v", q.Name, strings.TrimPrefix(q.Type.String(), "Type"))
	if !m.Response {
		return text + "?"
	}
	var answers []string
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			answers = append(answers, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			answers = append(answers, netip.AddrFrom16(r.AAAA).String())
		case *dnsmessage.CNAMEResource:
			answers = append(answers, r.CNAME.String())
		}
	}
	if len(answers) == 0 {
		answers = []string{strings.TrimPrefix(m.RCode.String(), "RCode") + ", no address"}
	}
	return text + " is " + strings.Join(answers, ", ")
}
